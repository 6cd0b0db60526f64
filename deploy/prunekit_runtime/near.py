"""What a name that does not exist was probably meant to be."""

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Optional

_COMPARED = 4000  # names; timm alone has over a thousand encoders
_LONGEST = 100  # characters of a name that are compared: the time grows with their square
_ALIKE = 0.6
_ALIKE_SHORT = 0.45  # of three characters two agree


def nearest(name: str, known: Iterable[str], alike: Optional[float] = None) -> Optional[str]:
    """Return the one of `known` that is most like `name`, whatever its case; None where none is like it.

    Args:
        name: what was written.
        known: the names that there are; the first 4000 are looked at.
        alike: how much they must have in common, from 0 to 1.
    """
    folded = {other[:_LONGEST].casefold(): other for other in islice(known, _COMPARED)}
    wanted = name[:_LONGEST].casefold()
    cutoff = alike if alike is not None else _ALIKE if len(wanted) > 3 else _ALIKE_SHORT
    found = difflib.get_close_matches(wanted, folded, n=1, cutoff=cutoff)
    return folded[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str], before: str = "") -> str:
    """Return " Did you mean NAME?" for the end of a sentence, or nothing where no name is near.

    Args:
        name: what was written.
        known: the names that there are.
        before: what stands before the name when it is typed, such as "smp:".
    """
    found = nearest(name, known)
    return "" if found is None else f" Did you mean {before}{found}?"


def near_path(path: Path) -> str:
    """Return " Did you mean PATH?" for a path that does not exist, or nothing: it exists, or none is like it."""
    if path.exists():
        return ""
    missing = path
    while not missing.parent.exists() and missing.parent != missing:
        missing = missing.parent
    try:
        names = [entry.name for entry in islice(os.scandir(missing.parent), _COMPARED)]
    except OSError:
        return ""
    found = nearest(missing.name, names)
    if found is None:
        return ""
    whole = missing.parent / found / path.relative_to(missing)
    return f" Did you mean {whole if whole.exists() else missing.parent / found}?"
