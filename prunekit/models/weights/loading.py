"""Weights of a file into a network: every tensor of it, or one error that says what is missing and what is near."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from prunekit.errors import ModelUsageError
from prunekit.models.hf import saved_names
from prunekit.models.weights.matching import Match, best_matches
from prunekit.models.weights.naming import grouped, near_names, pattern_for
from prunekit.models.weights.reading import Part, read_parts
from prunekit.tensorfile import size_bytes
from prunekit_runtime.near import did_you_mean

_COUNTERS: Final = "num_batches_tracked"  # of batch norms: files before PyTorch 0.4.1 lack them, and torch allows it
_LEAST: Final = 0.1  # share of a network's tensors that must fit, whatever is allowed: below it, names meet by chance
_HEAD: Final = 8  # tensors; a head for other classes has two to eight of another shape


@dataclass(frozen=True)
class WeightsReport:
    """What came from a file, and what did not."""

    path: Path
    place: str
    """Where in the file: "state_dict", or "" for its top."""
    strip: str
    add: str
    loaded: int
    own: tuple[str, ...]
    """Tensors that keep the values the network was built with: allowed to be missing."""
    unused: tuple[str, ...]
    """Tensors of the file that the network has no place for: allowed to be left out."""
    others: tuple[str, ...]
    """Other places in the file that fit as well, such as an average of the weights."""

    def sentence(self) -> str:
        """Return what was done in a line."""
        parts = [f"{self.loaded} tensors of {self.path}"]
        if self.place:
            parts.append(f"from {self.place!r} in it")
        if self.strip:
            parts.append(f"without {self.strip!r} in front of their names")
        if self.add:
            parts.append(f"with {self.add!r} in front of their names")
        return ", ".join(parts)


def load_weights_(
    network: nn.Module,
    path: Path,
    *,
    allow_missing: Sequence[str] = (),
    allow_unexpected: Sequence[str] = (),
    part: str | None = None,
) -> WeightsReport:
    """Copy the weights of a file into a network, bit by bit.

    Args:
        network: changed in place, and only if everything fits.
        path: .safetensors, or what torch.save wrote of a state dict or a mapping that holds one.
        allow_missing: patterns ("segmentation_head.*") of the network's names that the file need not have; where its
            tensor has another shape, it is left out too.
        allow_unexpected: patterns of names in the file that are left out.
        part: which mapping of the file to take, "ema"; without it the one that fits best.

    Raises:
        ModelError: the file cannot be read, or does not fit; says in groups what is missing, left over or of another
            shape. The network is as it was.
    """
    own = network.state_dict()
    parts = _asked(read_parts(path, size_bytes(own.values())), part, path)
    matches = best_matches(own, parts)
    if aliases := saved_names(network):
        aliased = best_matches({name: own[mine] for name, mine in aliases.items()}, parts)
        matches = max(matches, [match.renamed(aliases) for match in aliased], key=lambda found: found[0].rank)
    best = matches[0]
    missing, kept = _sorted_out(_really_missing(own, best), allow_missing)
    misshapen, reshaped = _sorted_out(tuple(best.misshapen), allow_missing)
    unexpected, unused = _sorted_out(best.unexpected, allow_unexpected)
    wrong = [name for name, value in best.fitting.items() if not _keeps_its_values(value, own[name])]
    if missing or misshapen or unexpected or wrong or _hardly_fits(best, own):
        raise ModelUsageError(_refusal(path, own, best, missing, misshapen, unexpected, wrong))
    network.load_state_dict(best.fitting, strict=False)
    return WeightsReport(
        path=path,
        place=best.part.place,
        strip=best.strip,
        add=best.add,
        loaded=len(best.fitting),
        own=(*kept, *reshaped),
        unused=unused,
        others=_others(matches),
    )


def _hardly_fits(match: Match, own: Mapping[str, Tensor]) -> bool:
    return len(match.fitting) <= _LEAST * len(own)


def _asked(parts: tuple[Part, ...], place: str | None, path: Path) -> tuple[Part, ...]:
    if place is None:
        return parts
    chosen = tuple(part for part in parts if part.place == place)
    if not chosen:
        known = ", ".join(repr(part.place) for part in parts[:10])
        near = did_you_mean(place, [part.place for part in parts])
        raise ModelUsageError(f"{path} has no part {place!r} that holds tensors. It has {known}.{near}")
    return chosen


def _really_missing(own: Mapping[str, Tensor], best: Match) -> tuple[str, ...]:
    """Return what is missing, but for counters of batch norms and second names of tensors that the file has."""
    shared = {(own[name].data_ptr(), own[name].shape) for name in best.fitting}
    return tuple(
        name
        for name in best.missing
        if not (name.endswith(_COUNTERS) or (own[name].data_ptr(), own[name].shape) in shared)
    )


def _sorted_out(names: Sequence[str], patterns: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names that no pattern covers, and those that one does."""
    covered = [name for name in names if any(fnmatchcase(name, pattern) for pattern in patterns)]
    return tuple(name for name in names if name not in set(covered)), tuple(covered)


def _keeps_its_values(value: Tensor, own: Tensor) -> bool:
    """Tell whether a tensor is the same number by number in the network's type."""
    if value.dtype == own.dtype:
        return True
    if value.is_floating_point() != own.is_floating_point():
        return False
    return torch.equal(value.to(own.dtype).to(value.dtype), value)


def _others(matches: Sequence[Match]) -> tuple[str, ...]:
    best, *rest = matches
    return tuple(match.part.place for match in rest if len(match.fitting) == len(best.fitting))


def _refusal(
    path: Path,
    own: Mapping[str, Tensor],
    best: Match,
    missing: Sequence[str],
    misshapen: Sequence[str],
    unexpected: Sequence[str],
    wrong: Sequence[str],
) -> str:
    place = f" (in {best.part.place!r})" if best.part.place else ""
    lines = [f"{path}{place} does not fit the network: {len(best.fitting)} of its {len(own)} tensors are in the file."]
    if missing:
        lines += ["Missing in the file:", *near_names(grouped(missing), missing, unexpected)]
    if unexpected:
        lines += ["Only in the file:", *grouped(unexpected).values()]
    if misshapen:
        shapes = [
            f"  {name}: {_shape(best.misshapen[name])} in the file, {_shape(own[name])} here" for name in misshapen
        ]
        lines += ["Of another shape:", *_some(shapes)]
    if wrong:
        types = [f"  {name}: {_type(best.fitting[name])} in the file, {_type(own[name])} here" for name in wrong]
        lines += ["Of a type that cannot be taken without rounding:", *_some(types)]
    if _hardly_fits(best, own):
        lines.append("Hardly anything fits: name the network that the file was trained with, its encoder included.")
        return "\n".join(lines)
    return "\n".join([*lines, *_advice((*missing, *misshapen), unexpected, len(own))])


def _advice(lacking: Sequence[str], unexpected: Sequence[str], tensors: int) -> list[str]:
    """Say what to do; a pattern that would cover every name, or more than a head, is no advice."""
    told: list[str] = []
    if lacking:
        head = pattern_for(lacking) if len(lacking) <= max(_HEAD, tensors // 10) else "*"
        anew = "" if head == "*" else f"If these are a head to be trained anew: --allow-missing '{head}'. Otherwise n"
        told.append(f"{anew or 'N'}ame the network, the encoder and the number of classes of the file.")
    if unexpected and (rest := pattern_for(unexpected)) != "*":
        told.append(f"If the network can do without what is only in the file: --allow-unexpected '{rest}'.")
    return told


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _some(lines: list[str]) -> list[str]:
    return lines if len(lines) <= 8 else [*lines[:8], f"  and {len(lines) - 8} more"]
