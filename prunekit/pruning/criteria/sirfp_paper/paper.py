"""SIRFP as published (arXiv 2412.12672 and its code), put together from one class per idea."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from prunekit.errors import PruneError
from prunekit.pruning.allocation import LayerTable, Target
from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.criteria.criterion import Allocation, Need
from prunekit.pruning.criteria.sirfp_paper.collector import DECAY, BnOutputs
from prunekit.pruning.criteria.sirfp_paper.cut import Levels, cut
from prunekit.pruning.criteria.sirfp_paper.folding import FoldReport, Means, ReluBeta, fold_means_
from prunekit.pruning.criteria.sirfp_paper.gradient import GradientTerm
from prunekit.pruning.criteria.sirfp_paper.measures import Edges, L1Redundancy, Redundancy, SobelEdge
from prunekit.pruning.criteria.sirfp_paper.members import ENCODER_PATTERN, Members, find_members
from prunekit.pruning.criteria.sirfp_paper.score import DeletionDegree, Score
from prunekit.pruning.criteria.sirfp_paper.stages import StageSchedule
from prunekit.pruning.criteria.sirfp_paper.threshold import GlobalThreshold, Threshold
from prunekit.pruning.criteria.sirfp_paper.union import Combination, UnionOverMembers
from prunekit.pruning.evidence import Evidence, Ranking
from prunekit_runtime.spelling import option

EDGE_WEIGHT = 0.4
"""lambda of the edge term in the encoder, 0 elsewhere; the scripts' comment is "0.2 or 0.4" (sirfp.md 1.2 d)."""


@dataclass
class Watch:
    """Collects what the scores need while it is open; opened around a pass over batches, or around a training."""

    members: Members
    outputs: BnOutputs
    gradient: GradientTerm | None
    _stack: ExitStack = field(default_factory=ExitStack, repr=False)

    def __enter__(self) -> Self:
        self._stack.enter_context(self.outputs)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def after_backward(self) -> None:
        """Take in the gradients that the parameters hold; in a training, between backward and the optimiser's step."""
        if self.gradient is not None:
            self.gradient.update()


def _relu_beta(evidence: Evidence) -> Means:
    return ReluBeta(evidence.network, evidence.coupling)


@dataclass(frozen=True, kw_only=True)
class SirfpPaper:
    """SIRFP's first version by default; every part can be exchanged for another of its protocol.

    What is ours, and only here: statistics come from one pass over the evidence's batches with the network as it is, in
    evaluation mode, where the official code averages over thousands of training steps (`watch` does that too); the
    share p of the threshold is bisected; channel counts may be aligned.
    """

    name: str = "sirfp-paper"
    summary: str = "SIRFP as published: pre-ReLU L1 redundancy, Sobel edges, union (arXiv 2412.12672)"
    allocation: Allocation = "paper"

    redundancy: Redundancy = field(default_factory=L1Redundancy)
    edges: Edges | None = field(default_factory=SobelEdge)
    edge_weight: float = EDGE_WEIGHT
    gradient_weight: float = 0.0
    """Of DCFP's criterion; 0 leaves the backward passes out. SIRFP-V2 has it for `edges` (sirfp.md 1.2 d)."""
    score: Score = field(default_factory=DeletionDegree)
    threshold: Threshold = field(default_factory=GlobalThreshold)
    combination: Combination = field(default_factory=UnionOverMembers)
    means: Callable[[Evidence], Means] = _relu_beta
    """Makes what the bias compensation folds."""
    schedule: StageSchedule = field(default_factory=StageSchedule)
    decay: float = DECAY
    positions: int | None = None
    """Random places a map that redundancy is measured on; None takes all, as published."""
    encoder: str = ENCODER_PATTERN
    never: tuple[str, ...] = ()
    """Batch norms that are never pruned, besides what the analysis freezes."""

    @property
    def needs(self) -> frozenset[Need]:
        """What it reads beside weights."""
        return frozenset({"data", "gradients"}) if self.gradient_weight else frozenset({"data"})

    def watch(self, network: nn.Module, coupling: Coupling, *, every: int = 1, seed: int = 0) -> Watch:
        """Return what collects this version's statistics.

        Args:
            network: the network that was analysed.
            coupling: its analysis.
            every: measure every so many calls of a batch norm.
            seed: of the places, where not all are measured.

        Raises:
            PruneError: no channel that can be removed passes through a batch norm.
        """
        members = find_members(network, coupling, encoder=self.encoder, never=self.never)
        gradient = GradientTerm(network, members.layers, decay=self.decay) if self.gradient_weight else None
        outputs = BnOutputs(
            network,
            members.layers,
            redundancy=self.redundancy,
            edges=self.edges,
            decay=self.decay,
            positions=self.positions,
            every=every,
            seed=seed,
        )
        return Watch(members, outputs, gradient)

    def observe(self, evidence: Evidence) -> Watch:
        """Return the statistics of one pass over the evidence's batches, the network in evaluation mode."""
        with self.watch(evidence.network, evidence.coupling, seed=evidence.seed) as watch:
            if self.gradient_weight:
                for _ in evidence.gradients():
                    watch.after_backward()
            else:
                _run(evidence)
        return watch

    def scores(self, watch: Watch) -> tuple[Members, dict[str, FloatArray]]:
        """Return the score of each channel of the batch norms that were seen, high to keep, and who they judge.

        A batch norm that was never called (an auxiliary head in evaluation mode) keeps its groups whole.

        Raises:
            PruneError: none was called, or a value is not finite.
        """
        seen = watch.outputs.statistics()
        members = watch.members.seen(seen)
        if not members.groups:
            raise PruneError("No batch norm was seen while the data ran. Pass at least one batch of images.")
        gradients = watch.gradient.values() if watch.gradient is not None else {}
        return members, {
            name: self.score(row.redundancy_CC, self._bonus(row.edge_C, gradients.get(name)))
            for name, row in seen.items()
        }

    def levels(self, watch: Watch) -> Levels:
        """Return the order in which the rising threshold takes the units of each group."""
        members, scores = self.scores(watch)
        return Levels.of(members.groups, self.combination(members, scores, self.threshold))

    def keep(
        self,
        evidence: Evidence,
        target: Target,
        align: int = 1,
        *,
        table: LayerTable | None = None,
        watch: Watch | None = None,
    ) -> dict[str, list[int]]:
        """Return the kept unit positions of each group that is judged; the others stay whole.

        Args:
            evidence: the network and its data.
            target: what shall be left, met within 0.5 % of the dense cost.
            align: channels are kept in multiples of this; a group that is no wider stays whole.
            table: measured layers, for a latency target.
            watch: statistics that were collected during a training; None collects them now.

        Raises:
            PruneError: no group is judged, the target is out of reach, or a latency target has no table.
        """
        return cut(evidence.coupling, self.levels(watch or self.observe(evidence)), target, align, table)

    def select(self, evidence: Evidence, target_macs_share: float, align: int = 1) -> dict[str, list[int]]:
        """Return the kept unit positions per group that leave the share `target_macs_share` of the dense MACs.

        Raises:
            PruneError: as `keep`.
        """
        return self.keep(evidence, Target("ratio", 1 - target_macs_share), align)

    def rank(self, evidence: Evidence) -> dict[str, Ranking]:
        """Rank by level, the share p of the threshold that takes a unit, for an allocation that is not the paper's.

        Raises:
            PruneError: a free group has no batch norm to judge it.
        """
        levels = self.levels(self.observe(evidence))
        judged = set(levels.rankings)
        missing = next((group.name for group in evidence.coupling.free if group.name not in judged), None)
        if missing is not None:
            raise PruneError(
                f"sirfp-paper judges channels by their batch norm, and group {missing} has none that saw data. Its own "
                f"allocation does not prune such groups: write {option('allocation', 'auto')}, or choose "
                f"{option('criterion', 'sirfp')}."
            )
        # The floors' infinite level becomes that of a unit that the threshold takes last.
        return {name: Ranking(row.order_U, np.minimum(row.price_U, 1.0)) for name, row in levels.rankings.items()}

    def compensate_(self, evidence: Evidence, keep: Mapping[str, list[int]]) -> FoldReport:
        """Fold what the removed channels gave on average into the dense network, in place; then cut it.

        Raises:
            PruneError: the evidence has no batch.
        """
        batch = next(iter(evidence.batches()), None)
        if batch is None:
            raise PruneError("The bias compensation runs the network once, and no batch was given. Pass at least one.")
        forward = partial(evidence.run, batch)
        return fold_means_(evidence.network, evidence.coupling, keep, self.means(evidence), forward)

    def _bonus(self, edge_C: Tensor | None, gradient_C: Tensor | None) -> Tensor | None:
        parts = [(self.edge_weight, edge_C), (self.gradient_weight, gradient_C)]
        terms = [weight * value.double().cpu() for weight, value in parts if value is not None]
        return sum(terms[1:], start=terms[0]) if terms else None


def _run(evidence: Evidence) -> None:
    """Run the network over all batches in evaluation mode, without gradients; leave its modes as they were."""
    modes = [(child, child.training) for child in evidence.network.modules()]
    evidence.network.eval()
    try:
        with torch.no_grad():
            for batch in evidence.batches():
                evidence.run(batch)
    finally:
        for child, training in modes:
            child.training = training
