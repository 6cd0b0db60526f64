"""`serve` under load: 16 clients with 10,000 pictures, then 1,000 requests that are none, and the memory it takes.

    python benchmarks/serve_load.py

prints docs/results/serve.md. The server is a process of its own, as a user starts it, with a tiny network in ONNX Runtime on
one CPU thread. Each mask that comes back is compared with the one that the model gives without a server. What is malformed
(damaged pictures, wrong types, files and pictures that are too large, no HTTP, senders that stop or drip) has to be answered
4xx or cut; one client goes on with good pictures meanwhile.
"""

import argparse
import collections
import dataclasses
import http.client
import json
import os
import random
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from prunekit.models.zoo import build
from prunekit_export.graph import PicturePass, export_onnx
from prunekit_runtime.bundle import InputEntry, ModelEntry
from prunekit_runtime.bundle.manifest import FileEntry, Manifest
from prunekit_runtime.classes import numbered
from prunekit_runtime.pictures.png_writer import encode_mask, encode_picture
from prunekit_runtime.pictures.reading import decode_picture
from prunekit_runtime.plainfile import sha256_of
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.picturing import PictureModel

HEIGHT, WIDTH, CLASSES = 64, 96, 4
NETWORK = "python:prunekit.models.street:street_net?width=8"
CONTRACT = Preprocessing(HEIGHT, WIDTH)
ROOT = Path(__file__).parents[1]
GOOD = {"Content-Type": "image/png"}
PATIENCE_S = 120


def main() -> None:
    """Load a server and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--malformed", type=int, default=1_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder) / "bundle")
        pairs = pictures_and_masks(bundle)
        with Server(bundle) as server:
            good(server, pairs, clients=options.clients, each=20)  # warms up
            rss_MiB = {"at start, after 20 requests a client": server.rss_MiB()}
            loaded = good(server, pairs, clients=options.clients, each=options.requests // options.clients)
            rss_MiB[f"after {loaded.total} pictures"] = server.rss_MiB()
            outcomes, meanwhile = bad(server, pairs, options.malformed)
            rss_MiB[f"after {options.malformed} malformed requests"] = server.rss_MiB()
            after = good(server, pairs, clients=options.clients, each=20)
            rss_MiB["at the end"] = server.rss_MiB()
            ended = server.end()
    print_page(options, loaded, outcomes, meanwhile, after, rss_MiB, ended)


@dataclasses.dataclass
class Load:
    """What became of good requests."""

    right: int = 0
    wrong: int = 0
    lost: int = 0
    seconds: float = 0.0
    latencies_ms: list[float] = dataclasses.field(default_factory=list)

    @property
    def total(self) -> int:
        """All that were sent."""
        return self.right + self.wrong + self.lost


class Server:
    """`python -m prunekit_runtime serve` in a process of its own."""

    def __init__(self, bundle: Path) -> None:
        command = [
            sys.executable,
            "-m",
            "prunekit_runtime",
            "serve",
            "--backend",
            "ort",
            "--threads",
            "1",
            "--port",
            "0",
        ]
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115  closed in __exit__
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "deploy")}
        self._process = subprocess.Popen(
            [*command, "--quiet"], cwd=bundle, env=environment, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        assert self._process.stdout is not None
        line = ""
        while "Listening on" not in line:
            line = self._process.stdout.readline()
            assert line, "the server did not start"
        self.port = int(line.split(" - ")[0].rpartition(":")[2])

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def rss_MiB(self) -> float:
        """Return the memory that the process holds."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024

    def end(self) -> str:
        """Send SIGTERM; return the exit code and what is in the log."""
        self._process.send_signal(signal.SIGTERM)
        code = self._process.wait(PATIENCE_S)
        self._log.seek(0)
        log = self._log.read()
        return f"exit code {code} after SIGTERM, {log.count('Traceback')} tracebacks in the log"


def write_bundle(folder: Path) -> Path:
    """Write a bundle of an untrained network, from pictures of any size to labels."""
    (folder / "models").mkdir(parents=True)
    logits, labels = folder.parent / "logits.onnx", folder / "models/labels.onnx"
    export_onnx(build(NETWORK, num_classes=CLASSES), logits, height=HEIGHT, width=WIDTH, dynamic=False)
    onnx.save(PicturePass(CONTRACT)(onnx.load(logits)).model, labels)
    classes = numbered(CLASSES)
    (folder / "classes.json").write_text(json.dumps({"names": classes.names, "palette": classes.palette}))
    (folder / "preprocessing.json").write_text(json.dumps(CONTRACT.to_json()))
    shape = (1, None, None, 3)
    profile = {"min": (1, 1, 1, 3), "opt": (1, HEIGHT, WIDTH, 3), "max": (1, 2048, 2048, 3)}
    entry = ModelEntry(
        "labels", "fp32", "labels", "models/labels.onnx", InputEntry("pictures", "uint8", shape), profile
    )
    hashes = {path: sha256_of(folder / path) for path in (entry.file, "classes.json", "preprocessing.json")}
    files = {path: FileEntry(size_bytes, sha256) for path, (sha256, size_bytes) in hashes.items()}
    (folder / "bundle.json").write_text(json.dumps(Manifest("load", "prunekit", (), (entry,), (), files).to_json()))
    return folder


def pictures_and_masks(bundle: Path) -> list[tuple[bytes, bytes]]:
    """Return files of pictures of several sizes, and the masks that belong to them."""
    draw, pairs = np.random.default_rng(0), []
    palette = numbered(CLASSES).palette
    with open_runner(bundle / "models/labels.onnx", threads=1, graph="labels") as runner:
        model = PictureModel(runner, CONTRACT)
        for number in range(16):
            height, width = 48 + 4 * number, 64 + 8 * number
            picture_HW3 = draw.integers(0, 256, (height, width, 3), dtype=np.uint8)
            labels_HW = model.labels(model.compute(model.prepare(picture_HW3)), height, width)
            pairs.append((encode_picture(picture_HW3), encode_mask(labels_HW, palette)))
    return pairs


def good(server: Server, pairs: list[tuple[bytes, bytes]], *, clients: int, each: int) -> Load:
    """Let clients ask at once, each on one connection; a request that has no answer is lost, and none is repeated."""
    load, lock = Load(), threading.Lock()

    def ask(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENCE_S)
        for turn in range(each):
            picture, mask = pairs[(number + turn) % len(pairs)]
            began_s = time.perf_counter()
            try:
                connection.request("POST", "/predict", picture, GOOD)
                answer = connection.getresponse()
                body = answer.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                body = None
            with lock:
                load.latencies_ms.append(1000 * (time.perf_counter() - began_s))
                load.right += body == mask
                load.lost += body is None
                load.wrong += body is not None and body != mask
        connection.close()

    began_s = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(ask, range(clients)))
    load.seconds = time.perf_counter() - began_s
    return load


def bad(
    server: Server, pairs: list[tuple[bytes, bytes]], count: int
) -> tuple[dict[str, collections.Counter[str]], Load]:
    """Send what is malformed, by 16 clients at once, while another goes on with good pictures."""
    work = list(malformed(pairs, count))
    random.Random(0).shuffle(work)
    outcomes: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    meanwhile, over, lock = Load(), threading.Event(), threading.Lock()

    def send(one: tuple[str, Callable[[int], bytes]]) -> None:
        kind, act = one
        outcome = outcome_of(act(server.port))
        with lock:
            outcomes[kind][outcome] += 1

    def go_on() -> None:
        while not over.is_set():
            once = good(server, pairs, clients=1, each=5)
            meanwhile.right += once.right
            meanwhile.wrong += once.wrong
            meanwhile.lost += once.lost
            time.sleep(0.05)

    friend = threading.Thread(target=go_on)
    friend.start()
    with ThreadPoolExecutor(40) as threads:
        list(threads.map(send, work))
    over.set()
    friend.join()
    return outcomes, meanwhile


def malformed(pairs: list[tuple[bytes, bytes]], count: int) -> Iterator[tuple[str, Callable[[int], bytes]]]:
    """Yield kinds and what sends one of them and returns all that comes back."""
    draw = random.Random(1)
    for _ in range(count * 40 // 100):
        content = damaged(pairs, draw)
        yield "damaged pictures", sending(post(content))
    for number in range(count * 15 // 100):
        kinds = ("text/plain", "image/gif", "application/json", "", "image/jpeg")
        yield "wrong types", sending(post(pairs[0][0], kinds[number % len(kinds)]))
    for number in range(count * 15 // 100):
        yield (
            "too large",
            (huge_file, sending(post(bomb())), sending(post(b"P6 60000 60000 255\n0", "image/x-portable-pixmap")))[
                number % 3
            ],
        )
    for _ in range(count * 10 // 100):
        yield "no HTTP", sending(draw.randbytes(draw.randint(1, 400)) + b"\r\n\r\n")
    for _ in range(count * 10 // 100):
        request = post(pairs[0][0])
        yield "ended in the middle", sending(request[: draw.randint(1, len(request) - 1)], end=True)
    slow = count - sum(count * share // 100 for share in (40, 15, 15, 10, 10))
    for number in range(slow):
        yield "slow senders", dripping if number % 2 else sending(post(pairs[0][0])[:-10])


def damaged(pairs: list[tuple[bytes, bytes]], draw: random.Random) -> bytes:
    """Return a picture with some bytes changed, cut out or put in, that is none any more."""
    while True:
        content = bytearray(draw.choice(pairs)[0])
        for _ in range(draw.randint(1, 8)):
            place = draw.randrange(8, len(content))
            action = draw.randrange(3)
            if action == 0:
                content[place] = draw.randrange(256)
            elif action == 1:
                del content[place : place + draw.randint(1, 200)]
            else:
                content[place:place] = draw.randbytes(draw.randint(1, 50))
            if len(content) < 40:
                break
        if draw.random() < 0.5:  # with checksums that are right, so that the damage is found further in
            content = bytearray(with_checksums(bytes(content)))
        try:
            decode_picture(bytes(content))
        except ValueError:
            return bytes(content)


def with_checksums(content: bytes) -> bytes:
    """Return a PNG whose chunks have the checksums of what they hold."""
    parts, place = [content[:8]], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind_and_data = content[place + 4 : place + 8 + length]
        parts.append(content[place : place + 4] + kind_and_data + struct.pack(">I", zlib.crc32(kind_and_data)))
        place += 12 + length
    return b"".join(parts)


def bomb() -> bytes:
    """Return a small PNG of 400 megapixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1 << 20))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def post(content: bytes, kind: str = "image/png", length: int | None = None) -> bytes:
    """Return a whole request."""
    size = len(content) if length is None else length
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {size}\r\nConnection: close"
    return head.encode() + b"\r\n\r\n" + content


def sending(content: bytes, *, end: bool = False) -> Callable[[int], bytes]:
    """Return what sends bytes and waits for the server to end the connection."""

    def send(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as talk:
            try:
                talk.sendall(content)
                if end:
                    talk.shutdown(socket.SHUT_WR)
            except OSError:
                pass  # the server has cut it
            return rest_of(talk)

    return send


def huge_file(port: int) -> bytes:
    """Announce 100 MiB, and go on sending until the server cuts."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as talk:
        try:
            talk.sendall(post(b"", length=100 << 20))
            for _ in range(100):
                talk.sendall(bytes(1 << 20))
        except OSError:
            pass
        return rest_of(talk)


def dripping(port: int) -> bytes:
    """Send a byte now and then, so that no single wait is long."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as talk:
        talk.settimeout(0.5)
        for _ in range(4 * PATIENCE_S):
            try:
                talk.sendall(b"G")
                found = talk.recv(1 << 12)
                return found + rest_of(talk)
            except TimeoutError:
                continue
            except OSError:
                break
    return b""


def rest_of(talk: socket.socket) -> bytes:
    """Return what comes until the connection ends."""
    found = b""
    try:
        while part := talk.recv(1 << 16):
            found += part
    except TimeoutError:
        return found + b"\nnot ended in time"
    except OSError:
        pass
    return found


def outcome_of(answer: bytes) -> str:
    """Return what an answer is counted as."""
    if b"Traceback" in answer or b"not ended in time" in answer:
        return "WRONG"
    if not answer:
        return "cut"
    status = answer[9:12].decode("ascii", "replace")
    return status if answer.startswith(b"HTTP/1.1 4") else f"WRONG {status}"


def print_page(
    options: argparse.Namespace,
    loaded: Load,
    outcomes: dict[str, collections.Counter[str]],
    meanwhile: Load,
    after: Load,
    rss_MiB: dict[str, float],
    ended: str,
) -> None:
    """Print the page."""
    cores = len(os.sched_getaffinity(0))
    quantiles = statistics.quantiles(loaded.latencies_ms, n=100)
    print("# `serve` under load\n")
    print(
        f"`python benchmarks/serve_load.py`: {cores} CPU cores for the server and its clients, ONNX Runtime "
        f"{onnxruntime.__version__} on one CPU thread, an untrained {NETWORK.rpartition(':')[2]} at {HEIGHT}x{WIDTH}, pictures of "
        "48x64 to 108x184. It says that nothing is lost, not how fast a device is; it was not run on a GPU or a Jetson.\n"
    )
    print(f"## {loaded.total} pictures from {options.clients} clients\n")
    print("| right masks | wrong masks | lost | seconds | pictures a second | p50 [ms] | p99 [ms] |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    print(
        f"| {loaded.right} | {loaded.wrong} | {loaded.lost} | {loaded.seconds:.1f} | {loaded.total / loaded.seconds:.0f} | "
        f"{quantiles[49]:.1f} | {quantiles[98]:.1f} |\n"
    )
    print(f"## {options.malformed} requests that are none\n\n| kind | sent | outcomes |\n| --- | --- | --- |")
    for kind, found in sorted(outcomes.items()):
        print(
            f"| {kind} | {found.total()} | {', '.join(f'{name}: {count}' for name, count in sorted(found.items()))} |"
        )
    wrong = sum(count for found in outcomes.values() for name, count in found.items() if name.startswith("WRONG"))
    print(f"\nNeither answered 4xx nor cut, or with a traceback: {wrong}.")
    print(
        f"A client with good pictures meanwhile: {meanwhile.right} of {meanwhile.total} right, {meanwhile.lost} lost."
    )
    print(f"{options.clients} clients afterwards: {after.right} of {after.total} right.\n")
    print("## Memory of the server\n\n| | RSS [MiB] |\n| --- | --- |")
    for when, held in rss_MiB.items():
        print(f"| {when} | {held:.0f} |")
    print(f"\nThe end: {ended}.")


if __name__ == "__main__":
    main()
