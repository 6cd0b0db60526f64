"""Say whether an ONNX file keeps tensors in other files, without protobuf: those are no part of what a bundle proves.

ONNX Runtime and TensorRT would open whatever path such a tensor names. The fields are those of onnx.proto; every place
that can hold a tensor is walked, and all else is skipped. What this reader does not understand is refused, so that no
other reader finds a tensor where this one saw none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Optional

from prunekit_runtime.errors import BundleError
from prunekit_runtime.plainfile import open_plain
from prunekit_runtime.text import printable_name

MAX_FIELDS = 1 << 20
MAX_DEPTH = 100  # protobuf's own limit
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
# Of each message, the fields that lead to tensors, and to what.
_INSIDE: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_NAME, _EXTERNAL_DATA, _DATA_LOCATION = 8, 13, 14


def refuse_external_data(path: Path) -> None:
    """Refuse an ONNX file that keeps a tensor in another file, or that cannot be read.

    Raises:
        BundleError: it does.
        OSError: the system does not give the file.
    """
    with open_plain(path) as file:
        try:
            outside = _Walk(file).tensor_outside()
        except ValueError as error:
            raise BundleError(f"{path} is no readable ONNX file: {error}. Write the bundle again.") from None
    if outside is not None:
        raise BundleError(
            f"{path} keeps weights ({printable_name(outside)}) in another file, which a bundle does not allow. "
            "Write the bundle again, of a model that is one file."
        )


@dataclass
class _Message:
    kind: str
    end: int
    """Where it ends in the file [bytes]."""
    name: str = ""
    is_outside: bool = False
    """Of a tensor, the name and whether it lies in another file."""


class _Walk:
    """One pass through a file; messages that are not walked are jumped over."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = file.seek(0, 2)
        self._at = file.seek(0)
        self._fields = 0
        self._last_varint = 0

    def tensor_outside(self) -> Optional[str]:
        """Return the name of the first tensor that lies in another file.

        Raises:
            ValueError: the bytes are not those of an ONNX file.
        """
        opened = [_Message("model", self._size)]
        while opened:
            last = opened[-1]
            if self._at == last.end:
                if last.is_outside:
                    return last.name or "without a name"
                opened.pop()
                continue
            inner = self._next(last)
            if inner is not None:
                opened.append(inner)
            if len(opened) > MAX_DEPTH:
                raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels")
        return None

    def _next(self, message: "_Message") -> "Optional[_Message]":
        """Pass one field of a message, or return the message that it begins."""
        number, wire = self._field()
        length = self._length(wire, message.end)
        inside = _INSIDE[message.kind].get(number) if wire == _BYTES else None
        if inside is not None:
            return _Message(inside, self._at + length)
        if message.kind != "tensor":
            self._skip(length)
        elif wire == _BYTES and number == _NAME:
            message.name = self._text(length)
        else:
            is_inside = number == _DATA_LOCATION and wire == _VARINT and self._last_varint == 0
            message.is_outside |= number in (_EXTERNAL_DATA, _DATA_LOCATION) and not is_inside
            self._skip(length)
        return None

    def _field(self) -> tuple[int, int]:
        self._fields += 1
        if self._fields > MAX_FIELDS:
            raise ValueError(f"it has more than {MAX_FIELDS} fields")
        tag = self._varint()
        # Readers that cut tags to 32 bits would see another field.
        if not 8 <= tag < 1 << 32:
            raise ValueError(f"it has the field {tag >> 3}")
        return tag >> 3, tag & 7

    def _length(self, wire: int, end: int) -> int:
        """Read what stands before a value, and return how many bytes are left of it; a varint is read whole."""
        if wire == _VARINT:
            self._last_varint = self._varint()
            length = 0
        elif wire == _BYTES:
            length = self._varint()
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"it has a value of the kind {wire}")
        if self._at + length > end:
            raise ValueError("it is cut short")
        return length

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._file.read(1)
            if not byte:
                raise ValueError("it is cut short")
            self._at += 1
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        raise ValueError("it has a number of more than ten bytes")

    def _text(self, length: int) -> str:
        kept = self._file.read(min(length, 200))
        self._at += len(kept)
        self._skip(length - len(kept))
        return kept.decode(errors="replace")

    def _skip(self, length: int) -> None:
        self._at += length
        self._file.seek(self._at)
