"""The criteria by name: what `--criterion` takes."""

import importlib
import re
from collections.abc import Mapping

from prunekit.errors import PruneUsageError, UntrustedCodeError
from prunekit.pruning.criteria import (
    depgraph,
    eic,
    fisher,
    fpgm,
    lamp,
    magnitude,
    multitask,
    obspa,
    pq,
    relevance,
    sirfp,
    slimming,
    taylor,
)
from prunekit.pruning.criteria.criterion import DATA, GRADIENTS, NOTHING, Criterion, Ranked, Scored
from prunekit.pruning.criteria.sirfp_paper import SirfpPaper, SirfpV2

_FOREIGN = re.compile(r"python:[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_CRITERIA: tuple[Criterion, ...] = (
    Ranked(
        "sirfp",
        "rise of the loss after the kept channels replace the removed ones (prunekit's own)",
        "cost",
        GRADIENTS,
        sirfp.sirfp_rankings,
    ),
    Ranked(
        "sirfp-clique",
        "greedy clique on cosines (after SIRFP: spatial-aware information redundancy filter pruning, 2025)",
        "uniform",
        DATA,
        sirfp.clique_rankings,
    ),
    Ranked(
        "sirfp-unweighted",
        "sirfp without the loss and so without labels: all outputs count equally",
        "uniform",
        DATA,
        sirfp.unweighted_rankings,
    ),
    SirfpPaper(),
    SirfpV2(),
    Scored("random", "random scores, for comparison", "uniform", NOTHING, magnitude.random_scores),
    Scored("l1", "sum of absolute filter weights (Li et al. 2017)", "uniform", NOTHING, magnitude.l1_scores),
    Scored("l2", "Euclidean norm of the filter weights", "uniform", NOTHING, magnitude.l2_scores),
    Scored("slimming", "scale of the batch norm (Liu et al. 2017)", "global", NOTHING, slimming.slimming_scores),
    Scored("fpgm", "distance to the layer's other filters (He et al. 2019)", "uniform", NOTHING, fpgm.fpgm_scores),
    Scored("taylor", "squared gate gradient (Molchanov et al. 2019)", "global", GRADIENTS, taylor.gate_scores),
    Scored(
        "taylor-weight", "squared weight x gradient (Molchanov et al. 2019)", "global", GRADIENTS, taylor.weight_scores
    ),
    Scored(
        "group-norm",
        "norm of all coupled slices (DepGraph, Fang et al. 2023)",
        "global",
        NOTHING,
        depgraph.group_norm_scores,
    ),
    Scored(
        "group-fisher",
        "squared gate gradient per saved MAC (Liu et al. 2021)",
        "global",
        GRADIENTS,
        fisher.group_fisher_scores,
    ),
    Scored("eic", "gradients that shrink the norm's scale (DCFP, 2024)", "global", GRADIENTS, eic.eic_scores),
    Scored(
        "multi-task",
        "gate gradients of segmentation and classification (after MTP, 2022: our reading)",
        "global",
        GRADIENTS,
        multitask.multi_task_scores,
    ),
    Scored("gmp", "root mean square weight (after Gupta et al. 2022)", "global", NOTHING, magnitude.rms_scores),
    Scored("pq-index", "norms, shares guided by their sparsity (Diao et al. 2023)", "global", NOTHING, pq.pq_scores),
    Scored("lamp", "norm relative to what is left (Lee et al. 2021)", "global", NOTHING, lamp.lamp_scores),
    Scored(
        "relevance",
        "LRP-epsilon of the true classes (after Yeom et al. 2021)",
        "global",
        GRADIENTS,
        relevance.relevance_scores,
    ),
    Ranked(
        "obspa", "optimal brain surgeon on noise (after SPA, Wang et al. 2024)", "uniform", DATA, obspa.obspa_rankings
    ),
)

CRITERIA: Mapping[str, Criterion] = {criterion.name: criterion for criterion in _CRITERIA}


def criterion_named(name: str, *, trust_code: bool = True) -> Criterion:
    """Return the criterion of this name.

    Args:
        name: a key of `CRITERIA`, or "python:package.module:name" for a `Scored`, `Ranked` or other `Criterion` that a
            module defines.
        trust_code: False refuses to import such a module.

    Raises:
        PruneError: there is none; the message lists the names.
        UntrustedCodeError: its module may not be run.
    """
    if is_foreign(name):
        return _imported(name, trust_code=trust_code)
    if name not in CRITERIA:
        raise PruneUsageError(
            f"There is no criterion called {name}. Choose one of: {', '.join(CRITERIA)}, "
            "or python:package.module:name for one of your own."
        )
    return CRITERIA[name]


def is_foreign(name: str) -> bool:
    """Tell whether a name has the form of a criterion that a module of the user's defines."""
    return _FOREIGN.fullmatch(name) is not None


def _imported(name: str, *, trust_code: bool) -> Criterion:
    module_name, _, attribute = name.removeprefix("python:").partition(":")
    if not trust_code:
        raise UntrustedCodeError(f"The criterion {name} runs code that is not part of prunekit")
    try:
        found = getattr(importlib.import_module(module_name), attribute, None)
    except ImportError as error:
        raise PruneUsageError(
            f"{module_name} cannot be imported ({error}). Install it, or set PYTHONPATH to its folder."
        ) from error
    if isinstance(found, type) or not isinstance(found, Criterion):
        raise PruneUsageError(
            f"{module_name} has no criterion {attribute!r}, got {type(found).__name__}. Define it with "
            "prunekit.pruning.criteria.criterion.Scored(name, summary, allocation, needs, scores)."
        )
    return found
