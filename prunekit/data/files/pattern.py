"""Where images or masks lie below a data set's folder, such as annotations/{split}/{name}_mask.png.

{name}                      what an image and its mask share; may reach over folders: city/000001
{split}                     train, val or test; {split:training|validation|testing} where the folders are called so
*                           anything within one part of a path, as shells read it
.* at the end, or nothing   every suffix that is read
"""

import re
import unicodedata
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from prunekit.data.dataset import Split
from prunekit.data.files.names import shown
from prunekit.errors import DataUsageError

NAME: Final = "{name}"
_SPLIT: Final = re.compile(r"\{split(?::([^{}]*))?\}")
_SPLITS: Final[tuple[Split, ...]] = ("train", "val", "test")
_PARTS: Final = re.compile(r"(\{name\}|\*)")
_MAX_STARS: Final = 4  # each multiplies the time that matching may take


@dataclass(frozen=True)
class Pattern:
    """A pattern with everything filled in but the split.

    Raises:
        DataError: it lacks {name}, holds another placeholder, leads out of the data set's folder, or ends in a suffix
            that is not read.
    """

    text: str
    what: str
    """"image" or "mask", for messages."""
    suffixes: tuple[str, ...]
    """Those that are read, such as ".png"."""

    def __post_init__(self) -> None:
        self._refuse_wrong_path()
        self._refuse_wrong_placeholders()
        ending = "." + self.whole.rpartition(".")[2]
        if ending != ".*" and ending.lower() not in self.suffixes:
            raise DataUsageError(
                f"{self._said} ends in {ending!r}; {self.what}s are read from {', '.join(self.suffixes)}."
            )

    @property
    def whole(self) -> str:
        """The pattern with its suffix."""
        text = unicodedata.normalize("NFC", self.text)
        return text if "." in text.rpartition("/")[2] else f"{text}.*"

    @property
    def has_split(self) -> bool:
        """Each split has places of its own."""
        return _SPLIT.search(self.text) is not None

    @cached_property
    def splits(self) -> dict[Split, str]:
        """What the splits are called on disk."""
        match = _SPLIT.search(self.text)
        names = match[1].split("|") if match and match[1] is not None else list(_SPLITS)
        return dict(zip(_SPLITS, names, strict=False))

    def of_split(self, split: Split) -> "Place":
        """Return where the files of a split lie.

        Raises:
            DataError: the pattern names no such split.
        """
        if split not in self.splits:
            raise DataUsageError(f"{self._said} names {len(self.splits)} splits, and none is {split}. Add the third.")
        return Place(_SPLIT.sub(lambda _: self.splits[split], self.whole), self.suffixes)

    @property
    def _said(self) -> str:
        return f"The pattern of {self.what}s, {shown(self.text)!r},"

    def _refuse_wrong_path(self) -> None:
        parts = self.text.split("/")
        if not all(parts) or {".", ".."} & set(parts) or "\\" in self.text:
            raise DataUsageError(
                f"{self._said} is no path below the data set's folder (--root). Write its parts between single "
                f"slashes, such as {{split}}/{self.what}s/{{name}}.png"
            )

    def _refuse_wrong_placeholders(self) -> None:
        if NAME not in self.text:
            raise DataUsageError(f"{self._said} lacks {{name}}, the part that an image and its mask share. Add it.")
        rest = _SPLIT.sub("", self.text).replace(NAME, "")
        if "{" in rest or "}" in rest:
            raise DataUsageError(f"{self._said} holds braces that are neither {{name}} nor {{split}}. Correct them.")
        if len({match[0] for match in _SPLIT.finditer(self.text)}) > 1:
            raise DataUsageError(f"{self._said} writes {{split}} in two ways. Write it alike.")
        names = list(self.splits.values())
        if self.has_split and not (2 <= len(names) <= 3 and all(names) and len(set(names)) == len(names)):
            raise DataUsageError(
                f"{self._said} needs two or three names of splits: {{split:training|validation|testing}}"
            )
        if any("/" in name or name in (".", "..") for name in names):
            raise DataUsageError(
                f"{self._said} has a split that is more than one folder. Name each by one part of the path."
            )
        if rest.count("*") > _MAX_STARS:
            raise DataUsageError(f"{self._said} holds more than {_MAX_STARS} stars. Write more of it out.")


@dataclass(frozen=True)
class Place:
    """A pattern with the split filled in."""

    text: str
    suffixes: tuple[str, ...]

    @cached_property
    def folder(self) -> tuple[str, ...]:
        """The parts of the path above everything that is open."""
        parts = self.text.split("/")[:-1]
        opened = next((at for at, part in enumerate(parts) if _PARTS.search(part)), len(parts))
        return tuple(parts[:opened])

    @property
    def written_out(self) -> int:
        """How many characters are fixed; of two patterns that fit one file, the one with more means it."""
        return len(_PARTS.sub("", self.text))

    @property
    def reads(self) -> str:
        """The suffixes that are read there."""
        return ", ".join(self.suffixes) if self.text.endswith(".*") else "." + self.text.rpartition(".")[2]

    def name_of(self, path: str) -> tuple[str, bool] | None:
        """Return what {name} stands for in a path below the data set's folder, and whether its suffix is read.

        None where the path does not fit. Paths are compared in one Unicode form.
        """
        match = self._expression.fullmatch(unicodedata.normalize("NFC", path))
        if match is None:
            return None
        suffix = match.groupdict().get("suffix")
        return match["name"], suffix is None or f".{suffix.lower()}" in self.suffixes

    @cached_property
    def _expression(self) -> re.Pattern[str]:
        text, any_suffix = self.text.removesuffix(".*"), self.text.endswith(".*")
        parts: list[str] = []
        for part in _PARTS.split(text):
            if part == NAME:
                parts.append("(?P=name)" if "(?P<name>.+)" in parts else "(?P<name>.+)")
            else:
                parts.append("[^/]*" if part == "*" else re.escape(part))
        return re.compile("".join(parts) + (r"\.(?P<suffix>[^/.]+)" if any_suffix else ""), re.DOTALL)
