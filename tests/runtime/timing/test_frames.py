"""Messages between host and device: what is written is read, and anything else is one error within bounds."""

import contextlib
import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prunekit_runtime.errors import MeasureError
from prunekit_runtime.timing.frames import MARK, MAX_PAYLOAD_BYTES, Frame, read_frame, write_frame

_HEADERS = st.dictionaries(st.text(max_size=8), st.integers(-(2**40), 2**40) | st.text(max_size=20), max_size=4)


@given(frames=st.lists(st.tuples(_HEADERS, st.binary(max_size=300)), max_size=4), greeting=st.binary(max_size=60))
def test_messages_are_read_as_they_were_written_whatever_a_shell_prints_before(
    frames: list[tuple[dict[str, object], bytes]], greeting: bytes
) -> None:
    stream = io.BytesIO()
    stream.write(greeting.replace(MARK, b"") + b"\n")
    for header, payload in frames:
        write_frame(stream, Frame(header, payload))
    stream.seek(0)
    assert [read_frame(stream) for _ in frames] == [Frame(header, payload) for header, payload in frames]
    assert read_frame(stream) is None


@given(noise=st.binary(max_size=200), cut=st.integers(0, 400))
def test_a_damaged_or_cut_message_is_at_most_one_error(noise: bytes, cut: int) -> None:
    stream = io.BytesIO()
    write_frame(stream, Frame({"do": "whole"}, b"model" * 40))
    whole = stream.getvalue()
    for content in (MARK + noise, whole[: min(cut, len(whole) - 1)], whole[:cut] + noise):
        with contextlib.suppress(MeasureError):  # anything else fails the test
            read_frame(io.BytesIO(content))


@pytest.mark.parametrize("size", [-1, MAX_PAYLOAD_BYTES + 1, "3", True, 1.5])
def test_an_announced_size_is_bounded_before_anything_is_read(size: object) -> None:
    line = MARK + f'{{"packed_bytes": {str(size).lower() if size != "3" else chr(34) + "3" + chr(34)}}}\n'.encode()
    with pytest.raises(MeasureError, match="announces"):
        read_frame(io.BytesIO(line))


def test_a_payload_that_unpacks_to_more_than_it_announces_takes_no_more_memory() -> None:
    packed = zlib.compress(bytes(1 << 26))  # 64 MiB of zeros
    line = MARK + f'{{"packed_bytes": {len(packed)}, "payload_bytes": 10}}\n'.encode()
    with pytest.raises(MeasureError, match="other bytes than it announces"):
        read_frame(io.BytesIO(line + packed))


def test_endless_lines_without_an_answer_end() -> None:
    with pytest.raises(MeasureError, match="no answer"):
        read_frame(io.BytesIO(b"Welcome!\n" * 2000))
