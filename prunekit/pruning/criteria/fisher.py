"""Group Fisher (Liu et al. 2021, "Group Fisher pruning for practical network compression"): loss per saved cost."""

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence


def group_fisher_scores(evidence: Evidence) -> Scores:
    """Average the squared gate gradients over samples, per GMAC that the unit's removal saves.

    (sum over a group's readers and places of a dL/da)^2, per sample (sirfp.md 5, from reading the authors' code). The
    paper removes one channel every ten iterations and counts costs anew; ours counts them once, on the whole network:
    our reading. With a cost-aware allocation the cost would be divided by twice.
    """
    saved_macs = unit_macs(evidence.coupling)
    scores: Scores = {}
    for group in evidence.coupling.free:
        fisher_U = evidence.gates[group.name].gate_SU.square().mean(dim=0).numpy()
        scores[group.name] = fisher_U / np.maximum(saved_macs[group.units] / 1e9, 1e-12)
    return scores


def unit_macs(coupling: Coupling) -> FloatArray:
    """Return for each label the MACs that go when its channels alone go."""
    saved = np.zeros(coupling.label_count)
    for cost in coupling.costs:
        before, after = float(cost.positions), np.full(coupling.label_count, float(cost.positions))
        for labels in cost.dims:
            before *= len(labels)
            after *= len(labels) - np.bincount(labels, minlength=coupling.label_count)
        saved += before - after
    return saved
