"""One connection: requests read and answered one after the other, each step within its time."""

import asyncio
import contextlib
import sys
import time
import traceback
from collections.abc import Callable
from http import HTTPStatus
from typing import Optional

from prunekit_runtime.serving.limits import RETRY_S
from prunekit_runtime.serving.messages import CONTINUE, HEAD_END, Answer, RefusedError, Request, parse_head
from prunekit_runtime.serving.routes import Service
from prunekit_runtime.text import printable, printable_name

Log = Callable[[str], None]
_CHUNK = 1 << 16
_MAX_SHOWN = 200  # characters of a request's path in the log


class Load:
    """What all conversations hold together."""

    def __init__(self) -> None:
        self.waiting = 0
        """Pictures that are being labelled or wait for it."""
        self.held_bytes = 0
        """Of files that were announced and are not done with."""
        self.is_ending = False


class Conversation:
    """A client that is connected.

    Args:
        reader, writer: the connection.
        service: what is answered.
        load: shared with all others.
        log: is given one line for each answer.
    """

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: Service, load: Load, log: Log
    ) -> None:
        self._reader, self._writer = reader, writer
        self._service, self._limits, self._load, self._log = service, service.limits, load, log
        self._peer = str((writer.get_extra_info("peername") or ("?",))[0])
        self.is_idle = True
        """Between two requests, when it can be ended without a word."""
        self._unread = False  # something of a request's body may still come

    async def run(self) -> None:
        """Answer until the client leaves, is refused, or the server ends."""
        try:
            while await self._one():
                pass
        except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
            pass  # the client left, or does not take its answer
        finally:
            await self._close()

    async def refuse(self, reason: str) -> None:
        """Send the client away before it said anything."""
        self.is_idle = False
        self._unread = True
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            await self._send(_busy(reason).answer(), None, time.monotonic(), close=True)
        await self._close()

    async def _one(self) -> bool:
        """Answer one request; return whether another may follow."""
        self.is_idle, self._unread = True, False
        first = await self._begun()
        self.is_idle = False
        if not first:
            return False
        began_s, request = time.monotonic(), None
        try:
            request = await self._request(first)
            answer = await self._answer(request)
        except RefusedError as refused:
            answer = refused.answer()
        except (OSError, asyncio.IncompleteReadError):
            self._say(request, "left", began_s)
            raise
        except Exception:
            sys.stderr.write(printable(traceback.format_exc()))
            self._unread = True
            answer = _failed().answer()
        close = self._unread or request is None or not request.keeps_alive or self._load.is_ending
        await self._send(answer, request, began_s, close=close)
        return not close

    async def _begun(self) -> bytes:
        """Return the first byte of a request; nothing where none comes."""
        with contextlib.suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._reader.read(1), self._limits.idle_s)
        return b""

    async def _request(self, first: bytes) -> Request:
        self._unread = True  # until it is known that nothing follows
        try:
            rest = await asyncio.wait_for(self._reader.readuntil(HEAD_END), self._limits.head_s)
        except asyncio.LimitOverrunError:
            raise RefusedError(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"Headers have at most {self._limits.head_bytes} bytes."
            ) from None
        except asyncio.TimeoutError:
            raise RefusedError(
                HTTPStatus.REQUEST_TIMEOUT, f"The headers took longer than {self._limits.head_s:g} s."
            ) from None
        return parse_head((first + rest)[: -len(HEAD_END)], self._limits.headers)

    async def _answer(self, request: Request) -> Answer:
        length = self._service.wants_body(request)
        if length is None:
            self._unread = False
            return await self._service.answer(request, b"")
        load, limits = self._load, self._limits
        if load.waiting >= limits.waiting or load.held_bytes + length > limits.held_bytes:
            raise _busy("Too many pictures are waiting.")
        load.waiting += 1
        load.held_bytes += length
        try:
            body = await self._body(request, length)
            return await asyncio.wait_for(self._service.answer(request, body), limits.answer_s)
        except asyncio.TimeoutError:
            raise _busy(f"The picture waited longer than {limits.answer_s:g} s.") from None
        finally:
            load.waiting -= 1
            load.held_bytes -= length

    async def _body(self, request: Request, length: int) -> bytes:
        if request.waits_for_continue:
            self._writer.write(CONTINUE)
        try:
            body = await asyncio.wait_for(self._reader.readexactly(length), self._limits.body_s)
        except asyncio.TimeoutError:
            raise RefusedError(
                HTTPStatus.REQUEST_TIMEOUT, f"The picture's file took longer than {self._limits.body_s:g} s."
            ) from None
        self._unread = False
        return body

    async def _send(self, answer: Answer, request: Optional[Request], began_s: float, *, close: bool) -> None:
        with_body = request is None or request.method != "HEAD"
        self._say(request, str(answer.status.value), began_s, len(answer.body))
        self._writer.write(answer.encoded(close=close, with_body=with_body))
        await asyncio.wait_for(self._writer.drain(), self._limits.send_s)

    async def _close(self) -> None:
        """End the connection so that the client can read what it was told, though it may still be sending."""
        with contextlib.suppress(OSError, asyncio.TimeoutError):
            if self._unread and self._writer.can_write_eof():
                self._writer.write_eof()
                await asyncio.wait_for(self._drop_rest(), self._limits.linger_s)
        self._writer.transport.abort()

    async def _drop_rest(self) -> None:
        while await self._reader.read(_CHUNK):
            pass

    def _say(self, request: Optional[Request], outcome: str, began_s: float, size_bytes: int = 0) -> None:
        asked = "-" if request is None else f"{request.method} {request.target[:_MAX_SHOWN]}"
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        passed_ms = 1000 * (time.monotonic() - began_s)
        self._log(printable_name(f'{now} {self._peer} "{asked}" {outcome} {size_bytes} bytes {passed_ms:.1f} ms'))


def _busy(reason: str) -> RefusedError:
    return RefusedError(
        HTTPStatus.SERVICE_UNAVAILABLE, f"{reason} Ask again in {RETRY_S} s.", {"Retry-After": str(RETRY_S)}
    )


def _failed() -> RefusedError:
    return RefusedError(HTTPStatus.INTERNAL_SERVER_ERROR, "The server failed. Its log says why.")
