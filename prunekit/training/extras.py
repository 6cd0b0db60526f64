"""What a training may need besides recipe and data: a teacher to follow, a regulariser that pulls on parameters."""

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import nn

from prunekit.errors import ConfigError
from prunekit.models.segmenter import Segmenter
from prunekit.recipe import TrainConfig
from prunekit.training.losses import Regulariser, Teacher, make_regulariser


@dataclass(frozen=True)
class Extras:
    """Built by the caller of `fit`; the recipe says how they are used."""

    teacher: Teacher | None = None
    """The dense network, for `train.distill`."""
    regulariser: Regulariser | None = None
    """For `train.sparsity`, from `make_regulariser`; l1 and polarisation on all norms need none from the caller."""

    @property
    def identity(self) -> str:
        """A hash of both, or "" where there is neither: a resumed training must bring the same."""
        parts = [part.identity for part in (self.teacher, self.regulariser) if part is not None]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest() if parts else ""

    def regularise(self, network: nn.Module) -> None:
        """Add the regulariser's pull to the gradients."""
        if self.regulariser is not None:
            self.regulariser.apply(network)

    def project(self, network: nn.Module) -> None:
        """Bring parameters back into the regulariser's range after a step."""
        if self.regulariser is not None:
            self.regulariser.project(network)

    def to(self, device: torch.device, layout: torch.memory_format = torch.contiguous_format) -> None:
        """Move the teacher."""
        if self.teacher is not None:
            self.teacher.to(device, layout)


def checked_extras(extras: Extras | None, segmenter: Segmenter, config: TrainConfig) -> Extras:
    """Return what the recipe's training uses, complete; nothing is left unused.

    Raises:
        ConfigError: the recipe asks for a part that is missing, or a part was given that it does not use.
    """
    given = extras or Extras()
    _check_teacher(given.teacher, segmenter, config)
    if given.regulariser is None:
        return replace(given, regulariser=make_regulariser(segmenter.network, config))
    if config.sparsity == "none":
        raise ConfigError("A regulariser was given, but train.sparsity is none. Set it, or leave the regulariser out.")
    return given


def _check_teacher(teacher: Teacher | None, segmenter: Segmenter, config: TrainConfig) -> None:
    if teacher is None and config.distill != "none":
        raise ConfigError(
            f"train.distill {config.distill} needs a dense network to follow, which only a pruning has. "
            f"Write `prunekit prune --distill {config.distill}`, or set train.distill to none."
        )
    if teacher is None:
        return
    if config.distill == "none":
        raise ConfigError("A teacher was given, but train.distill is none. Set it, or leave the teacher out.")
    own = {id(parameter) for parameter in segmenter.parameters()}
    if any(id(parameter) in own for parameter in teacher.segmenter.parameters()):
        raise ConfigError("The teacher shares parameters with the network that is trained. Give it a copy.")
    if teacher.segmenter.num_classes != segmenter.num_classes:
        raise ConfigError(
            f"The teacher has {teacher.segmenter.num_classes} classes, the network {segmenter.num_classes}. "
            "Take the network that was pruned as the teacher."
        )
