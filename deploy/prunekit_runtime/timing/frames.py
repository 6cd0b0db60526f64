"""Requests and answers between a host and a device: a line of JSON, then as many bytes as it announces, compressed.

Both ends are programs of this project, but what lies between them is a network, and a shell that may greet its user: so
an answer begins with a mark of its own, and every size is bounded before anything is read.
"""

import dataclasses
import json
import zlib
from collections.abc import Mapping
from typing import Any, BinaryIO, Optional, cast

from prunekit_runtime.errors import MeasureError
from prunekit_runtime.jsonfile import parse_json

MARK = b"prunekit-timing "
MAX_HEADER_BYTES = 1 << 20  # the kernels of a network of thousands of layers
MAX_PAYLOAD_BYTES = 1 << 31  # an ONNX file is a protobuf message, which ends there
_MAX_GREETING_LINES = 1000  # of a login shell, before the first answer
_CHUNK_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Frame:
    """One message: a JSON object, and bytes that go with it."""

    header: Mapping[str, Any]
    payload: bytes = b""


def write_frame(stream: BinaryIO, frame: Frame) -> None:
    """Write a message and flush it."""
    # The weights of a timed layer are noise that repeats itself, so the fastest level already makes them small.
    packed = zlib.compress(frame.payload, 1) if frame.payload else b""
    header = {**frame.header, "packed_bytes": len(packed), "payload_bytes": len(frame.payload)}
    stream.write(MARK + json.dumps(header, separators=(",", ":"), allow_nan=False).encode() + b"\n")
    stream.write(packed)
    stream.flush()


def read_frame(stream: BinaryIO) -> Optional[Frame]:
    """Read the next message; None at the end of the stream. Lines without the mark are skipped.

    Raises:
        MeasureError: the message is cut short, too large or damaged.
    """
    line = _marked_line(stream)
    if line is None:
        return None
    try:
        header = parse_json(line[len(MARK) :])
    except ValueError as error:
        raise MeasureError(f"A message between host and device is damaged: {error}. Try again.") from error
    if not isinstance(header, dict):
        raise MeasureError("A message between host and device is no JSON object. Try again.")
    values = cast("dict[str, Any]", header)
    packed_bytes, payload_bytes = (_size(values.pop(name, 0)) for name in ("packed_bytes", "payload_bytes"))
    return Frame(values, _unpacked(_read_exactly(stream, packed_bytes), payload_bytes))


def _marked_line(stream: BinaryIO) -> Optional[bytes]:
    for _ in range(_MAX_GREETING_LINES):
        line = stream.readline(MAX_HEADER_BYTES)
        if not line:
            return None
        if line.startswith(MARK):
            if not line.endswith(b"\n"):
                raise MeasureError("A message between host and device is cut short or too long. Try again.")
            return line
    raise MeasureError(f"The device printed {_MAX_GREETING_LINES} lines and no answer. Does its shell start cleanly?")


def _size(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_PAYLOAD_BYTES:
        raise MeasureError(f"A message between host and device announces {str(value)[:40]} bytes. Try again.")
    return value


def _read_exactly(stream: BinaryIO, count: int) -> bytes:
    parts: list[bytes] = []
    missing = count
    while missing:
        part = stream.read(min(missing, _CHUNK_BYTES))
        if not part:
            raise MeasureError("A message between host and device is cut short: the connection ended. Try again.")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)


def _unpacked(packed: bytes, size: int) -> bytes:
    if not packed and not size:
        return b""
    try:
        unpacker = zlib.decompressobj()
        payload = unpacker.decompress(packed, size + 1)  # never more memory than announced
    except zlib.error as error:
        raise MeasureError(f"A message between host and device is damaged: {error}. Try again.") from error
    if len(payload) != size or not unpacker.eof:
        raise MeasureError("A message between host and device holds other bytes than it announces. Try again.")
    return payload
