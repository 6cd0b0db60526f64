"""Which tensor of a file is which of a network, by names and shapes.

Frameworks wrap networks, so names in a file are longer or shorter at their front than the network's: `module.`,
`_orig_mod.`, `model.`, or `encoder.` missing. A renaming is a pair (front to strip, front to add); each tensor of the
file votes for the pair that gives the longest common end of a name with an equal shape, and the pairs with most votes
are tried on all tensors.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from prunekit.models.weights.reading import Part

_TRIED: Final = 8  # renamings
_ALIKE: Final = 64  # tensors of a network that end alike; above it an end says nothing
_AVERAGED: Final = ("ema", "swa", "average", "shadow", "teacher", "optim")


@dataclass(frozen=True)
class Match:
    """A part of a file, held against a network. Names are the network's, but for `unexpected`."""

    part: Part
    strip: str
    """What the names in the file have in front, and the network's do not."""
    add: str
    """The other way round."""
    fitting: Mapping[str, Tensor]
    misshapen: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]

    @property
    def rank(self) -> tuple[int, int, bool, int]:
        """The larger, the better: what fits, what does not, the trained weights before an average of them."""
        averaged = any(word in self.part.place.lower() for word in _AVERAGED)
        wrong = len(self.misshapen) + len(self.unexpected)
        return len(self.fitting), -wrong, not averaged, -len(self.strip) - len(self.add)

    def renamed(self, own: Mapping[str, str]) -> "Match":
        """Return the match under other names of the network's tensors."""
        return replace(
            self,
            fitting={own[name]: value for name, value in self.fitting.items()},
            misshapen={own[name]: value for name, value in self.misshapen.items()},
            missing=tuple(own[name] for name in self.missing),
        )


def best_matches(own: Mapping[str, Tensor], parts: tuple[Part, ...]) -> list[Match]:
    """Return the best match of each part of a file, the best of all first."""
    by_end = _by_end(own)
    found = [max(_matches(own, by_end, part), key=lambda match: match.rank) for part in parts]
    return sorted(found, key=lambda match: match.rank, reverse=True)  # a tie keeps the file's order


def _matches(own: Mapping[str, Tensor], by_end: Mapping[str, list[str]], part: Part) -> Iterator[Match]:
    votes: Counter[tuple[str, str]] = Counter({("", ""): 1})
    for name, tensor in part.tensors.items():
        votes.update(_votes(name, tensor, own, by_end))
    for (strip, add), _ in votes.most_common(_TRIED):
        yield _match(own, part, strip, add)


def _votes(
    name: str, tensor: Tensor, own: Mapping[str, Tensor], by_end: Mapping[str, list[str]]
) -> Iterator[tuple[str, str]]:
    for end in _ends(name):
        alike = by_end.get(end, [])
        fitting = [mine for mine in alike if own[mine].shape == tensor.shape]
        if fitting and len(fitting) <= _ALIKE:
            yield from ((name.removesuffix(end), mine.removesuffix(end)) for mine in fitting)
            return


def _match(own: Mapping[str, Tensor], part: Part, strip: str, add: str) -> Match:
    names = {add + name.removeprefix(strip): name for name in part.tensors if name.startswith(strip)}
    names = {mine: theirs for mine, theirs in names.items() if mine in own}
    tensors = {mine: part.tensors[theirs] for mine, theirs in names.items()}
    used = set(names.values())
    return Match(
        part=part,
        strip=strip,
        add=add,
        fitting={name: value for name, value in tensors.items() if value.shape == own[name].shape},
        misshapen={name: value for name, value in tensors.items() if value.shape != own[name].shape},
        missing=tuple(name for name in own if name not in names),
        unexpected=tuple(name for name in part.tensors if name not in used),
    )


def _by_end(own: Mapping[str, Tensor]) -> Mapping[str, list[str]]:
    by_end: defaultdict[str, list[str]] = defaultdict(list)
    for name in own:
        for end in _ends(name):
            by_end[end].append(name)
    return by_end


def _ends(name: str) -> Iterator[str]:
    """Yield "a.b.c", "b.c", "c"."""
    while name:
        yield name
        _, _, name = name.partition(".")
