"""What a pruning removed and what it cost: all stages, and the totals that follow from them."""

from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field

from prunekit.pruning.latency import Machine
from prunekit.pruning.picture import GroupChange, PartChange
from prunekit.workflows.pruning.report.stage import LayerRow, PaddingRow, StageReport

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class PruneReport:
    """What was removed, and what it cost. Totals are those of the network that the run ends with."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    format: Literal[2]
    source: str
    """Where it was, absolute."""
    source_sha256: str
    """Of the source's weights."""
    config: dict[str, Any]
    target: Literal["ratio", "macs", "params", "latency"]
    """What the target is measured in: MACs (ratio, macs), parameters, or milliseconds."""
    cost_before: Positive
    """Of the source, in that unit."""
    cost_wanted: Positive
    """After the last stage."""
    macs_before: Annotated[int, Field(gt=0)]
    params_before: Annotated[int, Field(gt=0)]
    frozen: tuple[tuple[str, str], ...]
    """Groups that stay whole, and why."""
    parts_before: dict[str, int]
    """MACs of each part of the network."""
    miou_before: float | None
    """Of the source as it is."""
    miou_settled: float | None = None
    """Of the source with its batch norms re-estimated like those of the cut network, which compares the two alike; None
    where they are not re-estimated."""
    stages: tuple[StageReport, ...] = ()
    planned: tuple[float, ...] = ()
    """Share of the source's cost that is to be gone after each stage."""
    machine: Machine | None = None
    """Where a latency is the target: what all stages are measured on; else None."""
    rolled_back: str | None = None
    """Why the last stage that was tried was taken back, or None."""
    finished: bool = False
    source_relative: str = "."
    """The source as seen from the run, for when both were moved."""

    @property
    def miou_dense(self) -> float | None:
        """Of the source, measured as the cut network is."""
        return self.miou_before if self.miou_settled is None else self.miou_settled

    @property
    def standing(self) -> tuple[StageReport, ...]:
        """The stages that the result went through: all but one that was taken back."""
        return self.stages[:-1] if self.rolled_back else self.stages

    @property
    def macs_after(self) -> int:
        """MACs of one image."""
        return self.standing[-1].macs_after if self.standing else self.macs_before

    @property
    def params_after(self) -> int:
        """Number of parameters."""
        return self.standing[-1].params_after if self.standing else self.params_before

    @property
    def ratio_realised(self) -> float:
        """Share of the source network's MACs that is gone."""
        return 1 - self.macs_after / self.macs_before

    @property
    def exactness(self) -> float:
        """The largest of the stages."""
        return max((stage.exactness for stage in self.standing), default=0.0)

    @property
    def miou_pruned(self) -> float | None:
        """Right after the last cut, before its fine-tuning."""
        return self.standing[-1].miou_pruned if self.standing else None

    @property
    def miou_after(self) -> float | None:
        """After the last fine-tuning; None until it is done, and where there is none."""
        return self.standing[-1].miou_after if self.standing else None

    @property
    def layers(self) -> tuple[LayerRow, ...]:
        """Every layer that makes channels, in the order of execution."""
        first = {row.name: row for stage in reversed(self.standing) for row in stage.layers}
        last = {row.name: row for stage in self.standing for row in stage.layers}
        return tuple(
            LayerRow(
                name,
                first[name].channels_before,
                last[name].channels_after,
                first[name].macs_before,
                last[name].macs_after,
            )
            for name in first
        )

    @property
    def groups(self) -> tuple[GroupChange, ...]:
        """Every group that could be pruned, in the order of execution."""
        first = {row.name: row for stage in reversed(self.standing) for row in stage.groups}
        last = {row.name: row for stage in self.standing for row in stage.groups}
        return tuple(
            replace(row, width_after=last[name].width_after, redundancy_after=last[name].redundancy_after)
            for name, row in first.items()
        )

    @property
    def parts(self) -> tuple[PartChange, ...]:
        """MACs of each part of the network."""
        after = self.standing[-1].parts if self.standing else self.parts_before
        return tuple(PartChange(name, macs, after.get(name, 0)) for name, macs in self.parts_before.items())

    @property
    def padding(self) -> tuple[PaddingRow, ...]:
        """What the result's channel counts cost on kernels that work on whole blocks."""
        return self.standing[-1].padding if self.standing else ()

    def with_stage(self, stage: StageReport) -> "PruneReport":
        """Return the report with `stage` in its place: a new one, or one that went on."""
        return replace(self, stages=(*self.stages[: stage.number - 1], stage))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values: what the run resumes from, and the totals that follow from it."""
        values = asdict(self) | {name: getattr(self, name) for name in DERIVED if name not in _ROWS}
        return values | {name: [asdict(row) for row in getattr(self, name)] for name in _ROWS}


_ROWS: Final = ("layers", "groups", "parts", "padding")
DERIVED: Final = (
    *("macs_after", "params_after", "ratio_realised", "exactness", "miou_pruned", "miou_after"),
    *_ROWS,
)
"""What `to_json` writes for readers, and reading leaves out."""
