"""Text of unknown origin (file names, class names, names in model files), made harmless for a terminal."""

import re

# C0 and C1 control codes, which terminals obey; marks that turn the direction of writing, and line separators, which
# make a line look like another one; lone surrogates, which no stream can encode.
_HARMFUL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_IN_TEXT = re.compile(f"[{_HARMFUL}]")
_IN_NAME = re.compile(f"[\t\n{_HARMFUL}]")


def printable(text: str) -> str:
    r"""Return `text` with control characters shown as \x1b; line ends and tabs stay."""
    return _IN_TEXT.sub(_shown, text)


def printable_name(name: str) -> str:
    r"""Return a name, or the text of one cell, with control characters shown as \x1b, line ends and tabs too."""
    return _IN_NAME.sub(_shown, name)


def _shown(match: "re.Match[str]") -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name that is no UTF-8, as os.fsdecode keeps it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
