"""Damaged and hostile files, drawn from the number of the case, and what is demanded of whoever reads them.

A file is either read, or refused by one error of ours with a short message; in bounded time and memory, and without
running, writing or connecting to anything.
"""

import json
import os
import random
import resource
import signal
import sys
import warnings
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.errors import MAX_MESSAGE, PrunekitError

MEMORY_BYTES = 1 << 30  # that a case may take beyond what the process holds
CPU_S = 20.0  # of this process alone, so that a busy machine makes no difference
MESSAGE = MAX_MESSAGE + 1  # characters
FORBIDDEN = {
    *("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.remove", "os.rename", "shutil.rmtree"),
    *("subprocess.Popen", "pickle.find_class", "socket.connect", "ctypes.dlopen"),
}
_seen: list[str] = []
_watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if not _watching:
        return
    if event in FORBIDDEN:
        _seen.append(event)
    if event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        _seen.append(f"open to write {arguments[0]}")


sys.addaudithook(_watch)  # for as long as the process lives, and silent outside of a case


class TooSlowError(BaseException):
    """Nothing that a reader may catch."""


@contextmanager
def guarded() -> Generator[None]:
    """Bound memory and time of a block, and watch what it does."""

    def stop(*_: object) -> None:
        raise TooSlowError

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    handler = signal.signal(signal.SIGVTALRM, stop)
    _seen.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # libraries warn of damage; here what comes out of it counts
            resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY_BYTES, before[1]))
            signal.setitimer(signal.ITIMER_VIRTUAL, CPU_S)
            _watching.append(True)
            yield
    finally:
        _watching.clear()
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGVTALRM, handler)


Fuzz = Callable[[Callable[[random.Random], bytes], Callable[[Path], object], str], None]


@pytest.fixture
def fuzz(request: pytest.FixtureRequest, tmp_path: Path) -> Fuzz:
    """fuzz(make, read, name): make(random) is the content of a case, read(path) is tried on it."""
    cases: int = request.config.getoption("--fuzz-cases")

    def run(make: Callable[[random.Random], bytes], read: Callable[[Path], object], name: str) -> None:
        path, refused = tmp_path / name, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        for number in range(cases):
            content = make(random.Random(f"{request.node.name} {number}"))
            path.write_bytes(content)
            message = ""
            try:
                with guarded():
                    read(path)
            except PrunekitError as error:
                refused, message = refused + 1, str(error)
            except BaseException as error:
                raise AssertionError(f"case {number}: {type(error).__name__} for {content[:3000]!r}") from error
            assert len(message) < MESSAGE, f"case {number}: {len(message)} characters: {message[:300]}"
            assert not _seen, f"case {number}: {_seen} for {content[:3000]!r}"
        assert refused > cases // 50, f"{refused} of {cases} refused: this damages nothing"

    return run


NUMBERS = (0, -1, 1, 255, 256, 2**31, 2**32 - 1, 2**53, 10**18, 10**40, 10**400, 0.5, -0.0, 1e-320, 1e38, 1e308)
TEXTS = (
    *("", " ", "a" * 6000, "\x1b[2J\x1b]0;x\x07", "\0", "\u202e", "é道👩‍👧", "../../etc/passwd", "/dev/zero", "nan"),
    *("python:os:system", "%s%n", "{0.__class__}", "1e999", "true", "-", "a.b.c"),
)
TOKENS = (
    *(b"NaN", b"Infinity", b"1e999", b"null", b"[]", b"{}", b'"', b"\\", b"\0", b"\xff\xfe", b"\n", b"=", b"[[", b","),
    *(b"9" * 5000, b"0x" + b"f" * 6000, b"[" * 20000, b'{"a":' * 20000, b"a." * 30000 + b"a=1", b"\x1b[2J", b"-1"),
    *(b"\x7f" * 8, b"\xff" * 8, b"\0" * 16, b"1" + b"0" * 30, b"2020-01-01T00:00:00", b"'''", b"#"),
)
_NEST = "a nest, to be put in place of this text"


class Mutator:
    """Damages bytes anywhere, and documents where they have a structure."""

    def bytes(self, draw: random.Random, content: bytes, *, most: int = 4) -> bytes:
        """Return `content` with one to `most` damages."""
        damaged = bytearray(content)
        for _ in range(draw.randint(1, most)):
            first = draw.randrange(len(damaged) + 1)
            last = min(len(damaged), first + draw.choice((1, 2, 4, 8, 40, 400)))
            choice = draw.randrange(8)
            if choice == 0 and first < len(damaged):
                damaged[first] ^= 1 << draw.randrange(8)
            elif choice == 1:
                del damaged[first:]
            elif choice == 2:
                del damaged[first:last]
            elif choice == 3:
                damaged[first:first] = damaged[first:last] * draw.choice((1, 1, 3, 50))
            elif choice == 4:
                damaged[first:last] = draw.randbytes(last - first)
            elif choice == 5:
                damaged[first:first] = draw.choice(TOKENS)
            elif choice == 6:
                number = draw.choice((0, 1, 0x7F, 0xFF, 1 << 15, 1 << 31, (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1))
                damaged[first:last] = number.to_bytes(8, draw.choice(("little", "big")))[: last - first]
            else:
                damaged[first:last] = bytes(last - first)
        return bytes(damaged)

    def json(self, draw: random.Random, value: Any) -> bytes:
        """Return the document with damages at its values and keys, now and then in its bytes as well."""
        root = [json.loads(json.dumps(value))]
        for _ in range(draw.randint(1, 3)):
            places = list(_places(root))
            if not places:
                break
            parent, key = draw.choice(places)
            if draw.random() < 0.5:  # near the root: what all readers look at
                parent, key = draw.choice(places[:40])
            self._damage(draw, parent, key, places)
        text = json.dumps(root[0] if root else None)
        nest = draw.choice(("[", '{"a":')) * draw.choice((40, 2000, 100_000))
        content = text.replace(json.dumps(_NEST), nest).encode("utf-8", "surrogatepass")
        return self.bytes(draw, content, most=1) if draw.random() < 0.2 else content

    def toml(self, draw: random.Random, content: bytes) -> bytes:
        """Return a TOML document, or another one in lines, with other values, lines lost, doubled or damaged."""
        lines = content.split(b"\n")
        for _ in range(draw.randint(1, 3)):
            row = draw.randrange(len(lines))
            key, equals, _ = lines[row].partition(b"=")
            choice = draw.randrange(5)
            if choice < 2 and equals:
                lines[row] = key + b"= " + self._token(draw)
            elif choice == 2:
                lines[row:row] = [lines[row]] * draw.choice((1, 2, 300))
            elif choice == 3:
                lines[row] = self.bytes(draw, lines[row], most=2)
            else:
                lines[row] = key + b" " + self._token(draw)
        return b"\n".join(lines)

    def _token(self, draw: random.Random) -> bytes:
        if draw.random() < 0.4:
            return draw.choice(TOKENS)
        return json.dumps(draw.choice((*NUMBERS, *TEXTS, True, [], [[1]], ["a", "a"]))).encode("utf-8", "surrogatepass")

    def _damage(self, draw: random.Random, parent: Any, key: Any, places: list[tuple[Any, Any]]) -> None:
        other_parent, other = draw.choice(places)
        choice = draw.randrange(8)
        if choice == 0:
            del parent[key]
        elif choice == 1 and isinstance(parent, dict):
            parent[draw.choice((*TEXTS, "extra"))] = parent.pop(key)
        elif choice == 2:
            parent[key] = json.loads(json.dumps(other_parent[other])) if other in _keys(other_parent) else None
        elif choice == 3:
            parent[key] = _NEST
        elif choice == 4 and isinstance(parent[key], list):
            parent[key] = parent[key] * draw.choice((0, 2, 100))
        elif choice == 5 and isinstance(parent[key], int | float) and abs(parent[key]) < 1e300:
            parent[key] = parent[key] * draw.choice((-1, 2, 1e9, 0.3, 1e300))
        elif choice == 6:
            parent[key] = draw.choice((None, True, False, [], {}, [None], {"a": 1}, float("nan"), float("inf")))
        else:
            parent[key] = draw.choice((*NUMBERS, *TEXTS))


def _keys(parent: Any) -> Any:
    return parent if isinstance(parent, dict) else range(len(parent))


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of every value, level by level."""
    level = [value]
    while level:
        found = [(node, key) for node in level for key in _keys(node)]
        yield from found
        level = [node[key] for node, key in found if isinstance(node[key], dict | list)]


@pytest.fixture(scope="session")
def mutate() -> Mutator:
    return Mutator()
