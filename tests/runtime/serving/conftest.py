"""A server in a thread of its own, and clients that write what they like to a socket."""

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.bundle import open_bundle
from prunekit_runtime.pictures.png_writer import encode_picture
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.picturing import PictureModel
from prunekit_runtime.serving import Access, Labelling, Limits, Server, Service

PATIENCE_S = 30.0


class Client:
    """Talks to a server that runs."""

    def __init__(self, port: int, lines: list[str]) -> None:
        self.port, self.lines = port, lines

    def ask(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, bytes, dict[str, str]]:
        """Send one request by the standard library's client."""
        connection = http.client.HTTPConnection("localhost", self.port, timeout=PATIENCE_S)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, named)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())
        finally:
            connection.close()

    def predict(self, picture: bytes, kind: str = "image/png", query: str = "", **headers: str) -> tuple[int, bytes]:
        status, body, _ = self.ask("POST", f"/predict{query}", picture, Content_Type=kind, **headers)
        return status, body

    def say(self, content: bytes, *, end: bool = False) -> bytes:
        """Send bytes and return all that comes until the server ends the connection."""
        with self.connect() as open_socket:
            open_socket.sendall(content)
            if end:
                open_socket.shutdown(socket.SHUT_WR)
            return self.everything(open_socket)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)

    def everything(self, open_socket: socket.socket) -> bytes:
        """Return what comes until the server ends the connection."""
        found = b""
        try:
            while part := open_socket.recv(1 << 16):
                found += part
        except ConnectionResetError:
            pass
        return found

    def error_of(self, answer: bytes) -> str:
        """Return the sentence of an answer as it came."""
        return json.loads(answer.partition(b"\r\n\r\n")[2])["error"]


class Running:
    """A server in a thread; `stop` ends it as a signal would."""

    def __init__(self, service: Service) -> None:
        self.lines: list[str] = []
        self._service = service
        self._ready: Future[tuple[Any, asyncio.Event, int]] = Future()
        self._thread = threading.Thread(target=self._run, name="server")
        self._thread.start()
        self._loop, self._stop, port = self._ready.result(PATIENCE_S)
        self.client = Client(port, self.lines)

    def begin_stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stop.set)

    def stop(self) -> None:
        self.begin_stop()
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    def _run(self) -> None:
        async def run() -> None:
            stop = asyncio.Event()
            loop = asyncio.get_running_loop()
            server = Server(self._service, self.lines.append)
            await server.run("127.0.0.1", 0, stop, lambda _, port: self._ready.set_result((loop, stop, port)))

        asyncio.run(run())


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start servers of a service; whatever runs at the end is stopped."""
    running: list[Running] = []

    def begin(labels: Any, limits: Limits | None = None, token: str | None = None) -> Running:
        limits = limits or Limits()
        running.append(Running(Service(labels, {"model": "demo"}, Access(token), limits)))
        return running[-1]

    yield begin
    for each in running:
        each.stop()


@pytest.fixture
def labels(runnable: Path) -> Iterator[Labelling]:
    """Label pictures with the bundle's own model."""
    bundle = open_bundle(runnable)
    entry = bundle.model("labels")
    with open_runner(entry.path(bundle.folder), threads=1, graph="labels") as runner:
        yield Labelling(PictureModel(runner, bundle.contract), bundle.classes, Limits().pixels, 2)


@pytest.fixture
def client(start: Start, labels: Labelling) -> Client:
    return start(labels).client


@pytest.fixture
def picture() -> bytes:
    return encode_picture(np.random.default_rng(0).integers(0, 256, (9, 14, 3), dtype=np.uint8))
