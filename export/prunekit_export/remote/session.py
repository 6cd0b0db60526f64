"""Commands on a device, and what becomes of them when the connection or this process ends."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import subprocess
import threading
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, BinaryIO, cast

from prunekit_export.errors import DeviceError, ExportUsageError
from prunekit_runtime.text import printable, printable_name

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from prunekit_export.remote.host import Host

MAX_OUTPUT_BYTES = 1 << 24
_LINE_BYTES = 1 << 16
_KEPT_LINES = 8
_SSH_FAILED = 255
_END_S = 5.0
_CLOSE_S = 2.0  # a command whose input ended goes by itself, unless it is measuring
# The command runs beside a `cat` of ssh's own input: that ends with the connection, and then the command is ended too.
_LIFELINE = (
    "exec 3<&0; {command} </dev/null 3<&- & task=$!; "
    "{{ cat <&3 >/dev/null 2>&1; kill -TERM $task 2>/dev/null; }} >/dev/null 2>&1 & line=$!; "
    "exec 3<&-; wait $task; code=$?; kill $line 2>/dev/null; exit $code"
)


@dataclass(frozen=True)
class Completed:
    """What a command on a device ended with."""

    code: int
    output: bytes
    complaint: str
    """The last lines that it wrote to its standard error, made harmless."""


@dataclass
class Session:
    """Commands on one device; `end` stops whatever runs, here and there."""

    host: Host
    _running: set[subprocess.Popen[bytes]] = field(default_factory=set["subprocess.Popen[bytes]"])
    _ended: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        if shutil.which("ssh") is None:
            raise ExportUsageError("There is no ssh here. Install OpenSSH's client (Debian: openssh-client).")

    def run(
        self,
        command: Sequence[str],
        *,
        folder: str | None = None,
        on_line: Callable[[str], None] | None = None,
        feed: Callable[[IO[bytes]], None] | None = None,
    ) -> Completed:
        """Run a command there, and wait for it.

        Args:
            command: program and arguments; quoted for the device's shell.
            folder: where it runs, from the home folder.
            on_line: told each line of its standard error.
            feed: writes its standard input; without it the command ends when the connection does.

        Returns:
            its exit code and output, whatever the code is.

        Raises:
            DeviceError: the connection failed or was lost, or the output is larger than 16 MiB.
        """
        line = shlex.join(command) if feed is not None else _LIFELINE.format(command=shlex.join(command))
        if folder is not None:
            line = f"cd {shlex.quote(folder)} && {{ {line}; }}"
        done = self._waited(self._started([*self.host.ssh, "--", self.host.target, line]), on_line, feed)
        if done.code == _SSH_FAILED or done.code < 0:
            raise DeviceError(_connection_lost(self.host, done.complaint))
        return done

    def opened(self, command: Sequence[str], *, folder: str) -> Channel:
        """Start a command there that is talked with, and ends when its input does.

        Args:
            command: program and arguments; quoted for the device's shell.
            folder: where it runs, from the home folder.
        """
        line = f"cd {shlex.quote(folder)} && exec {shlex.join(command)}"
        return Channel(self, self._started([*self.host.ssh, "--", self.host.target, line]))

    def local(self, command: Sequence[str]) -> Completed:
        """Run a program here that connects by itself, such as rsync.

        Raises:
            DeviceError: it was ended.
        """
        return self._waited(self._started(command), None, None)

    def _waited(
        self,
        process: subprocess.Popen[bytes],
        on_line: Callable[[str], None] | None,
        feed: Callable[[IO[bytes]], None] | None,
    ) -> Completed:
        complaints: list[str] = []
        reader = threading.Thread(target=_read_lines, args=(process.stderr, complaints, on_line), daemon=True)
        reader.start()
        writer = threading.Thread(target=_write, args=(process.stdin, feed), daemon=True)
        if feed is not None:
            writer.start()
        try:
            output = process.stdout.read(MAX_OUTPUT_BYTES + 1) if process.stdout else b""
            if len(output) > MAX_OUTPUT_BYTES:
                raise DeviceError(f"{self.host.target} answers with more than {MAX_OUTPUT_BYTES} bytes.")
            code = process.wait()
        finally:
            self._stopped(process)
        reader.join(_END_S)
        if self._ended:
            raise DeviceError("Interrupted.")
        return Completed(code, output, " ".join(complaints[-_KEPT_LINES:]))

    def ended(self, process: subprocess.Popen[bytes], after_s: float) -> None:
        """Let a process end by itself for a while, then end it."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(after_s)
        self._stopped(process)

    def end(self) -> None:
        """Stop what runs; the device ends its part when the connection is gone."""
        with self._lock:
            self._ended = True
            running = list(self._running)
        for process in running:
            process.terminate()

    def _started(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with self._lock:
            if self._ended:
                raise DeviceError("Interrupted.")
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C reaches us alone, and we end it in order
            )
            self._running.add(process)
        return process

    def _stopped(self, process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_END_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):  # what was written last finds nobody
                    stream.close()
        with self._lock:
            self._running.discard(process)


class Channel:
    """A command on a device that is talked with: `requests` is its input, `answers` its output."""

    def __init__(self, session: Session, process: subprocess.Popen[bytes]) -> None:
        self._session, self._process = session, process
        self.requests = cast("BinaryIO", process.stdin)
        self.answers = cast("BinaryIO", process.stdout)
        self._complaints: list[str] = []
        self._reader = threading.Thread(target=_read_lines, args=(process.stderr, self._complaints, None), daemon=True)
        self._reader.start()

    def close(self) -> str:
        """End it; return the last lines that it wrote to its standard error, made harmless."""
        with contextlib.suppress(OSError):  # what was written last finds nobody
            self.requests.close()
        self._session.ended(self._process, _CLOSE_S)
        self._reader.join(_END_S)
        return " ".join(self._complaints)


def _read_lines(stream: IO[bytes], kept: list[str], on_line: Callable[[str], None] | None) -> None:
    """Read what a device says; it may say anything, so a line has a length and no control characters."""
    while chunk := stream.readline(_LINE_BYTES):
        text = printable_name(printable(chunk.decode("utf-8", "replace")).strip())[:500]
        if text:
            kept.append(text)
            del kept[:-_KEPT_LINES]
            if on_line is not None:
                on_line(text)
    stream.close()


def _write(stream: IO[bytes], feed: Callable[[IO[bytes]], None]) -> None:
    with contextlib.suppress(OSError, ValueError):  # the other end went away: the exit code tells
        feed(stream)
        stream.close()


def _connection_lost(host: Host, complaint: str) -> str:
    said = complaint.rstrip(".") or "ssh gave no reason"
    return f"{host.target} cannot be reached, or the connection was lost: {said}. Try: ssh {host.target} true"
