# ruff: noqa: ARG002  the stand-ins keep the signatures of what they stand for
"""A model that is slow or fails, a queue that is full, and an end that answers what was begun."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from prunekit_runtime.classes import numbered
from prunekit_runtime.errors import RunnerError
from prunekit_runtime.preprocessing import ByteArray
from prunekit_runtime.serving import Labelling, Limits
from prunekit_runtime.serving.messages import Answer

PATIENCE_S = 30.0


class Model:
    """Labels everything 0, after `during` was called."""

    name = "a model"

    def __init__(self, during: Callable[[], Any]) -> None:
        self.during = during

    def prepare(self, picture_HW3: ByteArray, /) -> Any:
        return picture_HW3

    def compute(self, inputs: Any, /) -> Any:
        self.during()
        return inputs[..., 0] * 0

    def labels(self, outputs: Any, height: int, width: int, /) -> ByteArray:
        return outputs


def labelling(during: Callable[[], Any]) -> Labelling:
    return Labelling(Model(during), numbered(2), 10_000, 2)


class Held:
    """Keeps each picture until it is let go."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Semaphore(0), threading.Event()
        self.ended = False

    async def answer(self, content: bytes, content_type: str, wanted: str) -> Answer:
        self.begun.release()
        await asyncio.get_running_loop().run_in_executor(None, self.go.wait, PATIENCE_S)
        return Answer(HTTPStatus.OK, content, "image/png")

    def close(self) -> None:
        self.ended = True


@pytest.fixture
def asked(picture: bytes) -> Any:
    """Ask in threads of their own; call what is returned to have the answers."""

    def begin(client: Any, times: int) -> Callable[[], list[Any]]:
        answers: list[Any] = []
        threads = [threading.Thread(target=lambda: answers.append(client.predict(picture))) for _ in range(times)]
        for thread in threads:
            thread.start()

        def finish() -> list[Any]:
            for thread in threads:
                thread.join(PATIENCE_S)
            return answers

        return finish

    return begin


def test_an_end_answers_what_was_begun_and_takes_nothing_new(start: Any, asked: Any, picture: bytes) -> None:
    held = Held()
    running = start(held)
    finish = asked(running.client, 3)
    with running.client.connect() as idle:
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert idle.recv(1000).startswith(b"HTTP/1.1 200 ")
        for _ in range(3):
            assert held.begun.acquire(timeout=PATIENCE_S)
        running.begin_stop()
        assert idle.recv(1000) == b""
    with pytest.raises(ConnectionRefusedError):
        running.client.ask("GET", "/health")
    held.go.set()
    assert finish() == [(200, picture)] * 3
    running.stop()
    assert held.ended


def test_an_end_does_not_wait_for_ever(start: Any, picture: bytes) -> None:
    held = Held()
    running = start(held, Limits(grace_s=0.1))
    with running.client.connect() as talk:
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
        talk.sendall(head % len(picture) + picture)
        assert held.begun.acquire(timeout=PATIENCE_S)
        running.begin_stop()
        assert running.client.everything(talk) == b""  # though nobody lets go
    held.go.set()
    running.stop()


def test_more_pictures_than_may_wait_are_told_to_come_again(start: Any, asked: Any, picture: bytes) -> None:
    held = Held()
    client = start(held, Limits(waiting=2)).client
    finish = asked(client, 2)
    for _ in range(2):
        assert held.begun.acquire(timeout=PATIENCE_S)
    status, body, headers = client.ask("POST", "/predict", picture, Content_Type="image/png")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert b"Too many pictures are waiting" in body
    held.go.set()
    assert finish() == [(200, picture)] * 2
    assert client.predict(picture) == (200, picture)


def test_a_picture_that_waits_too_long_is_told_to_come_again(start: Any, picture: bytes) -> None:
    held = Held()
    client = start(held, Limits(answer_s=0.1)).client
    status, body = client.predict(picture)
    assert status == 503
    assert b"waited longer" in body
    held.go.set()


def test_a_client_that_does_not_take_its_answer_is_cut(start: Any, picture: bytes) -> None:
    class Large(Held):
        async def answer(self, content: bytes, content_type: str, wanted: str) -> Answer:
            return Answer(HTTPStatus.OK, bytes(1 << 26), "image/png")

    client = start(Large(), Limits(send_s=0.2)).client
    with client.connect() as talk:
        talk.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14)
        head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n"
        talk.sendall(head % len(picture) + picture)
        time.sleep(1.0)
        assert len(client.everything(talk)) < 1 << 26
    assert client.ask("GET", "/health")[0] == 200


def test_one_thread_at_a_time_uses_the_model(start: Any, asked: Any) -> None:
    inside, most, names = [0], [0], set()

    def during() -> None:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        names.add(threading.current_thread().name)
        time.sleep(0.01)
        inside[0] -= 1

    answers = asked(start(labelling(during)).client, 12)()
    assert [status for status, _ in answers] == [200] * 12
    assert most == [1]
    assert len(names) == 1


@pytest.mark.parametrize("error", [RunnerError("the GPU is gone: secret"), KeyError("secret")])
def test_what_fails_inside_is_in_the_log_and_not_in_the_answer(
    start: Any, picture: bytes, error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    client = start(labelling(fail)).client
    status, body = client.predict(picture)
    assert status == 500
    assert b"The server's log says why" in body
    assert b"secret" not in body
    assert b"Traceback" not in body
    assert "secret" in capsys.readouterr().err
    assert client.ask("GET", "/health")[0] == 200


def test_a_bug_on_the_way_is_an_answer_too(start: Any, picture: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Held):
        async def answer(self, content: bytes, content_type: str, wanted: str) -> Answer:
            raise ZeroDivisionError("secret")

    client = start(Broken()).client
    assert client.predict(picture) == (500, b'{"error": "The server failed. Its log says why."}\n')
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert client.ask("GET", "/health")[0] == 200


def test_a_token_is_asked_for_and_compared_whole(start: Any, labels: Labelling, picture: bytes) -> None:
    token = "0123456789abcdef"
    client = start(labels, token=token).client
    for given in ("", token, f"Bearer {token}x", "Bearer \xe9", f"Basic {token}"):
        status, body, headers = client.ask("POST", "/predict", picture, Content_Type="image/png", Authorization=given)
        assert (status, headers["WWW-Authenticate"]) == (401, "Bearer")
        assert b"token is missing or wrong" in body
    assert client.ask("GET", "/info")[0] == 401
    assert client.ask("GET", "/health", Host="other.example")[0] == 200
    assert client.predict(picture, Authorization=f"Bearer {token}")[0] == 200
    assert client.predict(picture, Authorization=f"bearer {token}", Host="other.example")[0] == 200
