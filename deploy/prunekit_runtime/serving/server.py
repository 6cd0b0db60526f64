"""The listening side: connections up to a number, and an end that answers what was begun."""

import asyncio
import contextlib
import errno
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from prunekit_runtime.errors import ServeUsageError
from prunekit_runtime.serving.conversation import Conversation, Load, Log
from prunekit_runtime.serving.routes import Service

_MOST_REFUSED = 64  # clients that are told that there are too many, at one time; more are cut
_BACKLOG = 128
_Tasks = dict["asyncio.Task[None]", Conversation]


class Server:
    """Serves until it is stopped; all of it runs in one event loop.

    Args:
        service: what is answered.
        log: is given one line for each answer.
    """

    def __init__(self, service: Service, log: Log) -> None:
        self._service, self._log, self._load = service, log, Load()
        self._talking: _Tasks = {}
        self._refusing: _Tasks = {}

    async def run(self, host: str, port: int, stop: asyncio.Event, on_ready: Callable[[str, int], None]) -> None:
        """Listen until `stop` is set, then answer what was begun, and return.

        Args:
            host: address or name to listen on.
            port: 0 for one that is free.
            stop: set it to end.
            on_ready: told the address and the port when requests can come.

        Raises:
            ServeUsageError: nothing can listen there.
        """
        server = await self._listening(host, port)
        try:
            on_ready(*server.sockets[0].getsockname()[:2])
            await stop.wait()
        finally:
            server.close()
            await self._end()
            self._service.labels.close()

    async def _listening(self, host: str, port: int) -> asyncio.Server:
        limit = self._service.limits.head_bytes
        try:
            return await asyncio.start_server(self._connected, host, port, limit=limit, backlog=_BACKLOG)
        except OSError as error:
            known = {errno.EADDRINUSE: "another program listens there", errno.EACCES: "ports below 1024 need rights"}
            reason = known.get(error.errno or 0, error.strerror or str(error))
            raise ServeUsageError(
                f"{host}:{port} cannot be listened on: {reason}. Give another --port or --host."
            ) from error

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # drain() then waits until the system has taken all, so that a client that does not read is found out.
        writer.transport.set_write_buffer_limits(0)
        talk = Conversation(reader, writer, self._service, self._load, self._log)
        if len(self._talking) < self._service.limits.connections:
            self._begin(talk.run(), talk, self._talking)
        elif len(self._refusing) < _MOST_REFUSED:
            self._begin(talk.refuse("Too many clients are connected."), talk, self._refusing)
        else:
            writer.transport.abort()

    def _begin(self, work: Coroutine[Any, Any, None], talk: Conversation, among: "_Tasks") -> None:
        # A task of our own: that of start_server logs a traceback when it is cancelled, which ends idle connections.
        task = asyncio.get_running_loop().create_task(work)
        among[task] = talk
        task.add_done_callback(lambda task: self._done(task, among))

    def _done(self, task: "asyncio.Task[None]", among: "_Tasks") -> None:
        del among[task]
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._log(f"A connection failed: {type(error).__name__}: {error}")

    async def _end(self) -> None:
        self._load.is_ending = True
        for task, talk in self._talking.items():
            if talk.is_idle:
                task.cancel()
        for grace_s in (self._service.limits.grace_s, 1.0):
            left = {*self._talking, *self._refusing}
            if left:
                _, late = await asyncio.wait(left, timeout=grace_s)
                for task in late:
                    task.cancel()


def run_until_stopped(server: Server, host: str, port: int, on_ready: Callable[[str, int], None]) -> None:
    """Serve in this thread, the main one, until SIGTERM, SIGHUP or Ctrl-C; a second signal does not wait any more.

    Raises:
        ServeUsageError: nothing can listen there.
    """

    async def run() -> None:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        task = asyncio.current_task()
        assert task is not None

        def end() -> None:
            if stop.is_set():
                task.cancel()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(number, end)
        await server.run(host, port, stop, on_ready)

    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run())
