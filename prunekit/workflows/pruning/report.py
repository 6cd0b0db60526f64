"""What a pruning did: the record it resumes from, and the report that people read. `prune.json`."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from prunekit.errors import RunError
from prunekit.pruning.latency import TOLERANCE, Machine
from prunekit.pruning.picture import GroupChange, PartChange, StageChange, draw_report
from prunekit.run import RunDirectory, read_json, write_atomically, write_json
from prunekit.tomltext import shown
from prunekit.validation import first_sentence
from prunekit.workflows.pruning.config import PruneConfig

REPORT: Final = "prune.json"
FIGURE: Final = "prune.svg"
FORMAT: Final = 2

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


@dataclass(frozen=True)
class LayerRow:
    """One layer before and after."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: str
    channels_before: int
    channels_after: int
    macs_before: int
    macs_after: int


@dataclass(frozen=True)
class PaddingRow:
    """MACs that kernels which work on whole blocks of channels spend on padding."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    block: int
    """Channels of a block."""
    macs: int
    """Spent on padding by the network as cut."""
    macs_unaligned: int | None
    """The same if the same target had been met with channel counts of any size; None where that is not known."""


@dataclass(frozen=True)
class StageReport:
    """One removal and the training after it. Costs are in the target's unit: MACs, parameters or milliseconds."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    number: int
    """From 1."""
    share: float
    """Of the source's cost that is to be gone after it."""
    allocation: str
    cost_wanted: float
    cost_predicted: float
    """By the cost model, for the channel counts that were chosen."""
    latency_measured_ms: float | None
    """Of the network as cut, where the target is a latency and the machine was at hand."""
    macs_after: int
    params_after: int
    groups: tuple[GroupChange, ...]
    layers: tuple[LayerRow, ...]
    parts: dict[str, int]
    """MACs of each part of the network as cut."""
    padding: tuple[PaddingRow, ...]
    compensated: tuple[str, ...]
    """Layers whose weights took up what the removed channels carried."""
    exactness: float
    """Largest relative difference between the cut and the masked network, float32."""
    miou_pruned: float | None
    """Right after the cut, before any fine-tuning."""
    epochs: int
    """Of fine-tuning after the cut."""
    miou_after: float | None = None
    """After fine-tuning; None until it is done, and where there is none."""
    tuned: bool = False
    """Whether the stage is over."""

    @property
    def miou(self) -> float | None:
        """Of the network that the stage ends with."""
        return self.miou_after if self.epochs else self.miou_pruned

    @property
    def misses_latency(self) -> bool:
        """Whether the network as cut was measured to be off its latency by more than the loop allows."""
        measured_ms = self.latency_measured_ms
        return measured_ms is not None and abs(measured_ms - self.cost_wanted) > TOLERANCE * self.cost_wanted


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
        values = asdict(self) | {name: getattr(self, name) for name in _DERIVED if name not in _ROWS}
        return values | {name: [asdict(row) for row in getattr(self, name)] for name in _ROWS}


_ROWS: Final = ("layers", "groups", "parts", "padding")
_DERIVED: Final = (
    *("macs_after", "params_after", "ratio_realised", "exactness", "miou_pruned", "miou_after"),
    *_ROWS,
)


def write_report(run: RunDirectory, report: PruneReport) -> None:
    """Replace the figure, then the report: the run resumes from the report."""
    criterion, removed = report.config["criterion"], report.ratio_realised
    title = f"{Path(report.source).name}: {removed:.1%} of the MACs removed by {criterion}"
    stages = [StageChange("source", report.macs_before, report.miou_dense)]
    stages += [StageChange(f"stage {stage.number}", stage.macs_after, stage.miou) for stage in report.standing]
    figure = draw_report(title, report.groups, report.parts, stages)
    write_atomically(run.path / FIGURE, figure.encode())
    write_json(run.path / REPORT, report.to_json())


def write_begun(run: RunDirectory, report: PruneReport) -> None:
    """Write the report of a pruning that nothing was written of yet; one that is there stays."""
    if not is_pruning(run):
        write_json(run.path / REPORT, report.to_json())


def read_report(run: RunDirectory) -> PruneReport:
    """Read `prune.json` back.

    Raises:
        RunError: it is missing or damaged, or another version wrote it.
    """
    path = run.path / REPORT
    values = read_json(path)
    if values.get("format") != FORMAT:
        raise RunError(
            f"{path} has format {shown(values.get('format'))}, this prunekit reads {FORMAT}: another version wrote it. "
            "Prune again; the source run is unchanged."
        )
    stored = {name: value for name, value in values.items() if name not in _DERIVED}
    try:
        report = TypeAdapter(PruneReport).validate_python(stored)
    except ValidationError as error:
        raise _damaged(path, first_sentence(error, PruneReport)) from None
    config = config_of(report, run)
    report = replace(report, config=config.model_dump(mode="json"))  # complete, where the file leaves out a default
    asked, planned, done = config.stage_count, len(report.planned), len(report.stages)
    in_order = [stage.number for stage in report.stages] == list(range(1, done + 1))
    if planned != asked or done > planned or not in_order or (report.finished and not done):
        raise RunError(
            f"{path} is damaged: its settings ask for {asked} stages, {planned} are planned and {done} described. "
            "Prune again; the source run is unchanged."
        )
    if (report.target == "latency") != (report.machine is not None):
        raise RunError(f"{path} is damaged: target and machine do not fit. Prune again; the source run is unchanged.")
    return report


def config_of(report: PruneReport, run: RunDirectory) -> PruneConfig:
    """Return the settings that a pruning was begun with.

    Raises:
        RunError: they are damaged.
    """
    try:
        return PruneConfig.model_validate(report.config)
    except ValidationError as error:
        raise _damaged(run.path / REPORT, f"config.{first_sentence(error, PruneConfig)}") from None


def _damaged(path: Path, reason: str) -> RunError:
    return RunError(f"{path} is damaged: {reason}. Prune again; the source run is unchanged.")


def is_pruning(run: RunDirectory) -> bool:
    """Tell whether `run` holds a pruning that can be gone on with."""
    return (run.path / REPORT).exists()
