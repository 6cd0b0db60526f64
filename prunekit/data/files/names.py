"""Names of files in messages: as text whatever their bytes are, a few of many, and what lies near."""

import difflib
import os
from collections.abc import Iterable
from itertools import islice
from typing import Final

LISTED: Final = 5  # names an error shows before it counts the rest
_COMPARED: Final = 2000  # candidates that are looked through for near names; comparing takes time


def shown(name: str) -> str:
    """Return a file's name as text: bytes that are no UTF-8 come from the system as lone surrogates."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def listed(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    texts = list(map(shown, names))
    rest = f" and {len(texts) - LISTED} more" if len(texts) > LISTED else ""
    return ", ".join(texts[:LISTED]) + rest


def near(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate that is most like `name`, one that holds it first; None where nothing is."""
    some = list(islice(candidates, _COMPARED))
    holding = sorted((one for one in some if name in one), key=lambda one: (len(one), one))
    return next(iter(holding or difflib.get_close_matches(name, some, 1, cutoff=0.5)), None)
