"""Heads of requests: whatever comes is a request or a refusal, and nothing is read in two ways."""

import numpy as np
import pytest

from prunekit_runtime.serving.messages import RefusedError, parse_head

HEAD = (
    b"POST /predict?format=json HTTP/1.1\r\nHost: localhost:8000\r\nContent-Type: image/png\r\nContent-Length: 12\r\n"
    b"Authorization: Bearer 0123456789abcdef\r\nConnection: keep-alive, x\r\nAccept: a\r\nAccept: b"
)


def test_a_head_is_read() -> None:
    request = parse_head(HEAD, 64)
    assert (request.method, request.path, request.query) == ("POST", "/predict", {"format": "json"})
    assert request.headers["accept"] == "a, b"
    assert request.length() == 12
    assert request.keeps_alive
    assert not request.waits_for_continue


@pytest.mark.drawn(300)
def test_a_damaged_head_is_a_request_or_a_refusal(seed: int) -> None:
    draw = np.random.default_rng(seed)
    content = bytearray(HEAD)
    for _ in range(int(draw.integers(1, 6))):
        place = int(draw.integers(len(content)))
        action = draw.integers(3)
        if action == 0:
            content[place] = int(draw.integers(256))
        elif action == 1:
            del content[place : place + int(draw.integers(1, 20))]
        else:
            content[place:place] = draw.bytes(int(draw.integers(1, 20)))
    try:
        request = parse_head(bytes(content), 64)
        request.length()
        assert isinstance(request.query, dict)
    except RefusedError:
        return
    assert request.target.isprintable()
    assert all("\r" not in value and "\n" not in value and "\0" not in value for value in request.headers.values())
