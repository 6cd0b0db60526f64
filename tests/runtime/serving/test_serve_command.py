"""`serve` as it is typed: what is refused, and a process that SIGTERM ends."""

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from prunekit_runtime.__main__ import main

ROOT = Path(__file__).parents[3]
Begin = Callable[..., "tuple[subprocess.Popen[str], int, list[str]]"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--host", "0.0.0.0"), "Make one: --token auto"),
        (("--host", "example.org"), "Make one: --token auto"),
        (("--host", "::"), "Make one: --token auto"),
        (("--port", "70000"), "Give 0 to 65535"),
        (("--token", "auto", "--token-file", "token"), "exclude each other"),
        (("--token-file", "token"), "16 to 512 letters"),
        (("--token-file", "nowhere"), "nowhere: No such file"),
        (("--max-pixels", "999999999"), "at most"),
        (("--max-body", "9999"), "at most 512 MiB"),
        (("--threads", "2", "--backend", "tensorrt"), "Leave it out"),
    ],
)
def test_what_cannot_be_served_is_one_sentence(
    runnable: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "token").write_text("too short\n")
    assert main(["serve", "--bundle", str(runnable), "--backend", "ort", "--model", "labels", *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_token_of_the_environment_is_checked_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PRUNEKIT_TOKEN", "short")
    assert main(["serve", "--backend", "ort"]) == 2
    assert "PRUNEKIT_TOKEN cannot be used" in capsys.readouterr().err


def test_a_port_that_is_taken_is_told(runnable: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        options = ["--bundle", str(runnable), "--backend", "ort", "--model", "labels", "--port", port]
        assert main(["serve", *options]) == 2
    assert "another program listens there" in capsys.readouterr().err


@pytest.fixture
def begin(runnable: Path) -> Iterator[Begin]:
    processes: list[subprocess.Popen[str]] = []

    def run(*options: str) -> "tuple[subprocess.Popen[str], int, list[str]]":
        command = [sys.executable, "-m", "prunekit_runtime", "serve", "--backend", "ort", "--model", "labels"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "deploy")}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen([*command, "--port", "0", *options], cwd=runnable, env=environment, **pipes)  # pyright: ignore[reportArgumentType,reportCallIssue]
        processes.append(process)
        lines: list[str] = []
        assert process.stdout is not None
        while "Listening" not in "".join(lines):
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            lines.append(line)
        found = re.search(r"http://127\.0\.0\.1:(\d+) ", lines[-1])
        assert found is not None
        return process, int(found.group(1)), lines

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(begin: Begin, number: int) -> None:
    process, port, _ = begin()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/info")
    assert b'"bundle": "demo"' in connection.getresponse().read()
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    connection.close()
    assert process.returncode == 0
    assert said.endswith("Ended.\n")
    assert "Traceback" not in said
    assert '127.0.0.1 "GET /info" 200' in said


def test_a_token_that_is_made_is_printed_and_needed(begin: Begin, picture: bytes) -> None:
    process, port, lines = begin("--token", "auto", "--quiet")
    token = lines[0].split()[1]
    assert len(token) >= 40
    for value, status in ((f"Bearer {token}", 200), ("Bearer 0", 401)):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("POST", "/predict", picture, {"Content-Type": "image/png", "Authorization": value})
        assert connection.getresponse().status == status
        connection.close()
    process.terminate()
    assert process.communicate(timeout=30)[1] == "Ended.\n"
