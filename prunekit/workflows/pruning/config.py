"""The settings of a pruning: what to remove, in how many stages, and how to train in between."""

from typing import Any, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from prunekit.data_paths import overriding
from prunekit.pruning.criteria import CRITERIA, is_foreign
from prunekit.recipe import MAX_COUNT, MAX_THREADS, Recipe, Section, Text, TrainConfig, merge, parse_recipe
from prunekit_runtime.near import nearest

TARGETS: Final = ("ratio", "target_macs", "target_params", "target_latency_ms")
DEFAULT_RATIO: Final = 0.5
STEPS: Final = {"one-shot": 1, "iterative": 2, "gradual": 4}
"""Stages of each schedule where `steps` does not say: SIRFP's scripts take two (sirfp.md 1.3), four is our choice."""

# Settings of the fine-tuning's recipe that have a field of their own here, or that this workflow decides.
_OWN: Final = ("epochs", "lr", "seed", "precision", "device", "threads", "distill", "sparsity", "loss", "rewind_epoch")
_WHERE: Final = ("root", "classes")  # a data set may move
_VIEWS: Final = ("crop_height", "crop_width", "scale_min", "scale_max", "flip", "colour")
_ACCEPTED: Final = ("allow_absent_classes", "allow_mostly_ignored")
_DATA: Final = tuple(f"data.{key}" for key in (*_WHERE, *_VIEWS, *_ACCEPTED))

TargetKind = Literal["ratio", "macs", "params", "latency"]


class PruneConfig(Section):
    """How a run is pruned. One of `ratio` and the `target_...` is given; without any, half of the MACs go."""

    ratio: float | None = Field(None, gt=0, lt=1, description="share of the MACs to remove")
    target_macs: float | None = Field(
        None, gt=0, le=1e18, description="remaining MACs, for one image of the run's size"
    )
    target_params: float | None = Field(None, gt=0, le=1e18, description="remaining parameters")
    target_latency_ms: float | None = Field(
        None, gt=0, le=1e9, description="remaining latency, from measurements on this machine [ms]"
    )
    criterion: Text = Field("sirfp", description="importance criterion; --list-criteria explains each")
    allocation: Literal["auto", "uniform", "global", "cost", "balanced"] = Field(
        "auto",
        description="how the cut is distributed over the groups; auto: as the criterion recommends",
    )
    align: int = Field(8, ge=1, le=4096, description="channel counts are kept multiples of this")
    schedule: Literal["one-shot", "iterative", "gradual"] = Field(
        "one-shot", description="all at once, in equal steps, or in shrinking (cubic) steps"
    )
    stages: tuple[float, ...] = Field(
        (), max_length=98, description="shares removed after each stage before the last (iterative)"
    )
    steps: int | None = Field(None, ge=1, le=99, description="stages; None: 1 one-shot, 2 iterative, 4 gradual")
    epochs: int = Field(10, ge=0, le=MAX_COUNT, description="epochs of fine-tuning after the last stage; 0 skips it")
    stage_epochs: int = Field(2, ge=0, le=MAX_COUNT, description="epochs of fine-tuning after each earlier stage")
    min_miou: float | None = Field(None, gt=0, le=1, description="a stage that ends below this is undone")
    init: Literal["pruned", "rewind", "random"] = Field(
        "pruned", description="weights that fine-tuning starts from: as cut, early ones of the same training, new ones"
    )
    distill: Literal["none", "logits", "channel"] = Field(
        "none", description="distillation from the source network's logits"
    )
    compensate: Literal["auto", "none", "linear"] = Field(
        "auto",
        description="fold what removed channels contribute into kept ones; auto: linear, or the criterion's own",
    )
    bn_batches: int = Field(
        16, ge=0, le=MAX_COUNT, description="batches to re-estimate batch norms on after the cut; 0 keeps them"
    )
    sparsity: Literal["none", "l1", "polarisation", "group", "mask"] = Field(
        "none", description="sparsity training before the cut"
    )
    sparsity_epochs: int = Field(5, ge=1, le=MAX_COUNT, description="epochs of that training")
    loss: Literal["ce", "ohem", "focal", "gsrl"] | None = Field(
        None, description="loss of the fine-tuning; None keeps the run's"
    )
    sampler: Literal["uniform", "balanced"] | None = Field(None, description="how images are drawn; None: the run's")
    select: Literal["none", "random", "pfb", "rs2", "classes"] = Field(
        "none", description="which images the fine-tuning takes, as selection.strategy of a training"
    )
    select_ratio: float = Field(0.4, ge=0, lt=1, description="share of each batch, or of the steps, that it saves")
    lr: float = Field(1e-3, gt=0, le=1000, description="highest learning rate of the fine-tuning")
    batches: int = Field(16, ge=1, le=MAX_COUNT, description="batches the channel statistics are collected on")
    seed: int = Field(0, ge=0, lt=2**31, description="random seed of selection, image order and augmentation")
    precision: Literal["fp32", "bf16", "fp16"] | None = Field(
        None, description="number format of fine-tuning; None keeps the run's"
    )
    device: Literal["auto", "cpu", "cuda"] | None = Field(None, description="None keeps the run's")
    threads: int | None = Field(None, ge=0, le=MAX_THREADS, description="CPU threads; None keeps the run's")
    settings: dict[str, Any] = Field({}, description="other settings of the fine-tuning: train.KEY and some data.KEY")

    @model_validator(mode="before")
    @classmethod
    def _one_target(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = [name for name in TARGETS if values.get(name) is not None]
        if len(given) > 1:
            raise ValueError(f"one target at a time, got {' and '.join(map(_flag, given))}; leave all but one out")
        return values if given else {**values, "ratio": DEFAULT_RATIO}

    @field_validator("criterion")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in CRITERIA and not is_foreign(name):
            near = nearest(name, CRITERIA)
            if near is not None:
                raise ValueError(f"no criterion of that name; the nearest is {near} (--list-criteria explains all)")
            known = ", ".join(sorted(CRITERIA))
            raise ValueError(f"no criterion of that name; there are {known}, or python:package.module:name")
        return name

    @field_validator("stages")
    @classmethod
    def _rising(cls, stages: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 < share < 1 for share in stages) or list(stages) != sorted(set(stages)):
            raise ValueError("shares must rise and lie between 0 and 1, such as 0.3,0.6")
        return stages

    @field_validator("settings")
    @classmethod
    def _tunable(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for dotted in settings:
            section, _, key = dotted.partition(".")
            if section == "train" and key in _OWN:
                own = "the training that was pruned" if key == "rewind_epoch" else _flag(key)
                raise ValueError(f"{dotted} is decided by {own}; leave it out")
            if section != "train" and dotted not in _DATA:
                raise ValueError(f"{dotted} cannot change after a training; write train.KEY, {', '.join(_DATA)}")
        return settings

    @model_validator(mode="after")
    def _schedule_fits(self) -> Self:
        if self.stages and self.schedule != "iterative":
            raise ValueError(
                f"--stages belongs to --schedule iterative, got --schedule {self.schedule}; write iterative, or give "
                "the number of stages alone: --steps"
            )
        if self.stages and self.steps is not None:
            raise ValueError("--stages says how many stages there are, got --steps as well; leave --steps out")
        if self.schedule == "one-shot" and self.steps not in (None, 1):
            raise ValueError(
                f"--steps {self.steps} belongs to --schedule iterative or gradual, got one-shot, which is one step; "
                "write --schedule iterative, or leave --steps out"
            )
        if self.stages and self.ratio is not None and self.stages[-1] >= self.ratio:
            raise ValueError(
                f"--stages names the shares before the last one, which is --ratio {self.ratio:g} by itself, so they "
                f"lie below it; leave {self.stages[-1]:g} out"
            )
        return self

    @property
    def target_kind(self) -> TargetKind:
        """What the target is measured in."""
        names: tuple[TargetKind, ...] = ("ratio", "macs", "params", "latency")
        return names[[getattr(self, name) is not None for name in TARGETS].index(True)]

    @property
    def target_value(self) -> float:
        """The ratio, or what remains: MACs, parameters or milliseconds."""
        return next(float(getattr(self, name)) for name in TARGETS if getattr(self, name) is not None)

    @property
    def stage_count(self) -> int:
        """How many times channels are removed."""
        return len(self.stages) + 1 if self.stages else self.steps or STEPS[self.schedule]


def _flag(setting: str) -> str:
    """Return the command's option for a setting."""
    return "--" + setting.removesuffix("_ms").replace("_", "-")


def fine_tuning_recipe(recipe: Recipe, config: PruneConfig) -> Recipe:
    """Return the source's recipe with the settings of the fine-tuning after the last stage.

    Selection and budget are the pruning's own, nothing pulls towards sparsity any more, and no early weights are kept.

    Raises:
        ConfigError: one of `config.settings` is unknown or out of range.
    """
    values = merge(recipe.model_dump(), overriding(config.settings))
    train: dict[str, Any] = {"epochs": max(1, config.epochs), "lr": config.lr, "seed": config.seed}
    train |= {"sparsity": "none", "distill": config.distill, "rewind_epoch": 0}
    kept = ("precision", "device", "threads", "loss")
    train |= {key: value for key in kept if (value := getattr(config, key)) is not None}
    if "train.budget" not in config.settings:
        train["budget"] = 1.0
    values["selection"] |= {"strategy": config.select, "ratio": config.select_ratio}
    values["train"] |= train
    if config.sampler is not None:
        values["data"]["sampler"] = config.sampler
    return parse_recipe(values)


def changed(recipe: Recipe, **train: Any) -> Recipe:
    """Return `recipe` with other values in its training section."""
    section = TrainConfig.model_validate({**recipe.train.model_dump(), **train})
    return recipe.model_copy(update={"train": section})
