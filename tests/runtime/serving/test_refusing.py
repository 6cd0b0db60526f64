"""What a server does not take: each is a 4xx in one sentence or a cut connection, and the next request is answered."""

import contextlib
import socket
import time
import zlib
from typing import Any

import pytest

from prunekit_runtime.serving import Labelling, Limits

HOST = b"Host: localhost\r\n"
PNG = b"Content-Type: image/png\r\n"


def head(first: bytes, *lines: bytes) -> bytes:
    return first + b"\r\n" + b"".join(lines) + b"\r\n"


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (b"nonsense\r\n\r\n", 400, "no request"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "HTTP/1.1"),
        (b"GET http://localhost/ HTTP/1.1\r\n\r\n", 400, "no request"),
        (b"GET /\x00 HTTP/1.1\r\n\r\n", 400, "no request"),
        (head(b"GET / HTTP/1.1"), 400, "Host is missing"),
        (head(b"GET / HTTP/1.1", HOST, HOST), 400, "twice"),
        (head(b"GET / HTTP/1.1", HOST, b"No colon\r\n"), 400, "headers is none"),
        (head(b"GET / HTTP/1.1", HOST, b"A: b\r\n continued: c\r\n"), 400, "headers is none"),
        (head(b"GET / HTTP/1.1", HOST, b"A : b\r\n"), 400, "headers is none"),
        (head(b"GET / HTTP/1.1", HOST, b"A: b\x01\r\n"), 400, "headers is none"),
        (head(b"GET / HTTP/1.1", HOST, b"A: b\rC: d\r\n"), 400, "headers is none"),
        (head(b"GET / HTTP/1.1", HOST, b"Content-Length: 4\r\n") + b"body", 400, "takes no body"),
        (head(b"GET / HTTP/1.1", *[b"A: b\r\n"] * 70), 431, "At most 64"),
        (head(b"GET / HTTP/1.1", HOST, b"A: " + b"b" * (1 << 15) + b"\r\n"), 431, "at most 16384 bytes"),
        (head(b"GET /nothing HTTP/1.1", HOST), 404, "/predict here"),
        (head(b"GET /predict HTTP/1.1", HOST), 405, "takes POST"),
        (head(b"DELETE /info HTTP/1.1", HOST), 405, "takes GET"),
        (head(b"GET /info HTTP/1.1", b"Host: rebound.example\r\n"), 403, "localhost"),
        (head(b"GET /health HTTP/1.1", b"Host: rebound.example:80\r\n"), 403, "localhost"),
        (head(b"POST /predict HTTP/1.1", HOST, PNG), 411, "Content-Length is missing"),
        (head(b"POST /predict HTTP/1.1", HOST, PNG, b"Transfer-Encoding: chunked\r\n") + b"0\r\n\r\n", 411, "chunks"),
        (
            head(b"POST /predict HTTP/1.1", HOST, PNG, b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n"),
            400,
            "exclude each other",
        ),
        (head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: -1\r\n"), 400, "no number"),
        (head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: 1, 1\r\n"), 400, "no number"),
        (head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: 0\r\n"), 400, "body is empty"),
        (head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: 99999999999\r\n"), 413, "at most 33554432 bytes"),
        (head(b"POST /predict HTTP/1.1", HOST, b"Content-Length: 4\r\n") + b"body", 415, "Content-Type"),
        (
            head(b"POST /predict HTTP/1.1", HOST, b"Content-Type: text/plain\r\nContent-Length: 4\r\n") + b"body",
            415,
            "image/png",
        ),
        (
            head(b"POST /predict?format=gif HTTP/1.1", HOST, PNG, b"Content-Length: 4\r\n") + b"body",
            400,
            "format is one",
        ),
        (
            head(b"POST /predict?" + b"a=b&" * 20 + b" HTTP/1.1", HOST, PNG, b"Content-Length: 4\r\n"),
            400,
            "too many parts",
        ),
    ],
)
def test_a_request_that_is_none_is_told_so(client: Any, request_: bytes, status: int, words: str) -> None:
    answer = client.say(request_)
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert words in client.error_of(answer)
    assert b"Connection: close" in answer or status in (403, 404, 405)
    assert client.ask("GET", "/health")[0] == 200


@pytest.mark.parametrize(
    ("content", "kind", "status", "words"),
    [
        (b"no picture", "image/png", 415, b"The file is no image/png"),
        (b"\x89PNG\r\n\x1a\n", "image/jpeg", 415, b"The file is no image/jpeg"),
        (b"\x89PNG\r\n\x1a\n", "image/png", 422, b"The picture is damaged"),
        (b"P6 3 3 255\nabc", "image/x-portable-pixmap", 422, b"pixels are missing"),
        (b"P6 90000 90000 255\nabc", "image/x-portable-pixmap", 413, b"at most 16777216 are read"),
        (b"\xff\xd8\xff\xc0\0\x11\x08\xff\xff\xff\xff", "image/jpeg", 413, b"at most 16777216 are read"),
        (b"\xff\xd8\xff\xd9", "image/jpeg", 422, b"The picture is damaged"),
    ],
)
def test_a_file_that_is_no_picture_is_told_so(
    client: Any, content: bytes, kind: str, status: int, words: bytes
) -> None:
    got, body = client.predict(content, kind)
    assert got == status
    assert words in body
    assert b"Traceback" not in body


def test_a_png_that_says_it_is_large_is_refused_before_it_is_unpacked(client: Any) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    size = (8000).to_bytes(4, "big") * 2
    bomb = (
        chunk(b"IHDR", size + b"\x08\x02\0\0\0") + chunk(b"IDAT", zlib.compress(bytes(1 << 24))) + chunk(b"IEND", b"")
    )
    assert client.predict(b"\x89PNG\r\n\x1a\n" + bomb)[0] == 413


def test_what_follows_a_picture_that_was_refused_is_answered_on_the_same_connection(
    client: Any, picture: bytes
) -> None:
    def post(body: bytes, *more: bytes) -> bytes:
        return head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: %d\r\n" % len(body), *more) + body

    answer = client.say(post(b"no picture") + post(picture, b"Connection: close\r\n"))
    assert answer.startswith(b"HTTP/1.1 415 ")
    assert b"HTTP/1.1 200 OK" in answer


def test_a_client_may_wait_to_be_told_to_go_on(client: Any, picture: bytes) -> None:
    expects = (b"Expect: 100-continue\r\n", b"Content-Length: %d\r\n" % len(picture), b"Connection: close\r\n")
    with client.connect() as talk:
        talk.sendall(head(b"POST /predict HTTP/1.1", HOST, PNG, *expects))
        assert talk.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        talk.sendall(picture)
        assert client.everything(talk).startswith(b"HTTP/1.1 200 OK")


def test_http_1_0_is_answered_and_ended(client: Any) -> None:
    assert client.say(b"GET /health HTTP/1.0\r\n\r\n").endswith(b'{"status": "ok"}\n')


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /hea", b"408"),
        (head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: 100\r\n") + b"slow", b"408"),
        (b"", b""),
    ],
)
def test_a_slow_sender_is_cut(start: Any, labels: Labelling, sent: bytes, status: bytes) -> None:
    client = start(labels, Limits(head_s=0.1, body_s=0.1, idle_s=0.1, linger_s=0.1)).client
    began_s = time.monotonic()
    assert client.say(sent)[9:12] == status
    assert time.monotonic() - began_s < 15


def test_a_drip_of_bytes_does_not_lengthen_the_time(start: Any, labels: Labelling) -> None:
    client = start(labels, Limits(head_s=0.3, linger_s=10)).client
    with client.connect() as talk:
        talk.settimeout(0.02)
        answer, began_s = b"", time.monotonic()
        while not answer and time.monotonic() - began_s < 15:
            talk.sendall(b"G")
            with contextlib.suppress(TimeoutError):
                answer = talk.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408 ")


def test_a_client_that_leaves_in_the_middle_is_let_go(client: Any, picture: bytes) -> None:
    for sent in (b"GE", head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: 100\r\n") + b"abc"):
        assert client.say(sent, end=True) == b""
    assert client.predict(picture)[0] == 200
    assert sum(line.split('" ')[1].startswith("left") for line in client.lines) == 2


def test_too_many_connections_are_told_to_come_again(start: Any, labels: Labelling) -> None:
    client = start(labels, Limits(connections=2)).client
    held = [client.connect() for _ in range(2)]
    for talk in held:
        talk.sendall(head(b"GET /health HTTP/1.1", HOST))
        assert talk.recv(1000).startswith(b"HTTP/1.1 200 ")
    answer = client.say(head(b"GET /health HTTP/1.1", HOST))
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"Retry-After: 1\r\n" in answer
    for talk in held:
        talk.close()
    for _ in range(1000):  # until the server has seen that they left
        if client.ask("GET", "/health")[0] == 200:
            break
        time.sleep(0.01)
    assert client.ask("GET", "/health")[0] == 200


def test_files_that_would_take_too_much_memory_together_are_told_to_come_again(
    start: Any, labels: Labelling, picture: bytes
) -> None:
    client = start(labels, Limits(held_bytes=10_000)).client
    with client.connect() as talk:
        talk.sendall(head(b"POST /predict HTTP/1.1", HOST, PNG, b"Content-Length: 9900\r\n"))
        for _ in range(1000):  # until the server has seen it
            if client.predict(picture)[0] == 503:
                break
            time.sleep(0.01)
        assert client.predict(picture)[0] == 503
    for _ in range(1000):
        if client.predict(picture)[0] == 200:
            return
        time.sleep(0.01)
    pytest.fail("the memory was not given back")


def test_the_log_shows_no_control_characters(client: Any) -> None:
    client.say(b"GET /\xc2\x9b31m%1b HTTP/1.1\r\n\r\n")
    client.say(head(b"GET /%1b[31m HTTP/1.0"))
    assert all(line.isprintable() for line in client.lines)
    assert '"GET /%1b[31m" 404' in client.lines[1]


def test_an_abandoned_socket_is_no_error(client: Any) -> None:
    for _ in range(20):
        talk = client.connect()
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # closes with a reset
        talk.sendall(head(b"GET /health HTTP/1.1", HOST))
        talk.close()
    assert client.ask("GET", "/health")[0] == 200
