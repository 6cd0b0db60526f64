"""Kill -9 in the middle of train, prune and export: what is half written never passes as whole, and all ends in equal bits.

    python benchmarks/kills.py > docs/results/kills.md

Each command runs once undisturbed. Then it is killed at random instants: half of the times after a random part of its
time, half of the times before a random change of a file, where the narrow windows lie. After each kill the folder is
looked at, the command goes on as its own advice says, and what it leaves is compared bit by bit. One process at a time on
one CPU thread; commands are forked from a process that has imported torch, so that the time goes to them.
"""

import argparse
import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = (
    *("--model", "python:prunekit.models.street:street_net?width=16", "--threads", "1", "--device", "cpu"),
    *("--batch-size", "4", "--set", "data.train_images=8", "--set", "data.val_images=2"),
    *("--set", "data.height=64", "--set", "data.width=64"),
)
# What the audit hook of Python calls a change of a file; os.replace is a rename.
_CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod", "os.truncate")


@dataclass(frozen=True)
class Command:
    """A command, how it goes on, and which of its files must come out equal."""

    name: str
    start: Callable[[Path], list[str]]
    go_on: Callable[[Path], list[str]]
    begun: str
    """The file from which on it can go on; before that it is started again."""
    equal: tuple[str, ...]
    final: str
    """The file whose name says that all is there."""


@dataclass
class Tally:
    """What came out of the kills of one command."""

    by_time: int = 0
    by_file: int = 0
    too_late: int = 0
    """The command had ended before the kill came; not counted as a kill."""
    passed_as_whole: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    """Ends that going on did not reach."""
    differ: list[str] = field(default_factory=list)


def main() -> None:
    """Kill, look, go on, compare; print the table and fail if anything was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=34, help="kills of each command")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=["train", "prune", "export"])
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        commands = _commands(work)
        tallies = {name: _kill(commands[name], args.kills, work, random.Random(args.seed)) for name in args.only}
    print(_page(tallies))
    if any(tally.passed_as_whole or tally.refused or tally.differ for tally in tallies.values()):
        sys.exit(1)


def _commands(work: Path) -> dict[str, Command]:
    """Train what prune and export start from; return the three commands."""
    source = work / "source"
    _finish(["train", *TINY, "--epochs", "1", "--out", str(source)], work)
    train = ["train", *TINY, "--epochs", "3", "--select", "pfb", "--select-ratio", "0.5"]
    prune = ["prune", str(source), "--ratio", "0.4", "--epochs", "2", "--batches", "2", "--bn-batches", "2"]
    export = ["export", str(source), "--precision", "fp16", "--images", "1"]
    return {
        "train": Command(
            "train",
            lambda out: [*train, "--out", str(out)],
            lambda out: ["train", "--resume", str(out)],
            "recipe.toml",
            ("model.safetensors",),
            "model.json",
        ),
        "prune": Command(
            "prune",
            lambda out: [*prune, "--out", str(out)],
            lambda out: ["prune", "--resume", str(out)],
            "prune.json",
            ("model.safetensors", "pruned/model.safetensors"),
            "model.json",
        ),
        "export": Command(
            "export",
            lambda out: [*export, "--out", str(out)],
            lambda out: [*export, "--out", str(out)],
            "model.onnx",
            ("model.onnx", "model.fp16.onnx", "preprocessing.json", "classes.json"),
            "model.onnx",
        ),
    }


def _kill(command: Command, kills: int, work: Path, draw: random.Random) -> Tally:
    reference = work / f"{command.name}-reference"
    started_s = time.perf_counter()
    changes = _finish(command.start(reference), work)
    whole_s = time.perf_counter() - started_s
    wanted = _hashes(command, reference)
    tally, out = Tally(), work / command.name
    while tally.by_time + tally.by_file < kills:
        shutil.rmtree(out, ignore_errors=True)
        how = _one_kill(command, out, work, whole_s, changes, tally, draw)
        if how is None:
            continue
        if (out / command.final).exists() and _hashes(command, out) != wanted:
            tally.passed_as_whole.append(how)
        _go_on(command, out, work, how, wanted, tally)
        done = tally.by_time + tally.by_file
        print(f"\r{command.name}: {done}/{kills} {how}        ", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return tally


def _one_kill(
    command: Command, out: Path, work: Path, whole_s: float, changes: int, tally: Tally, draw: random.Random
) -> str | None:
    """Start the command and kill it; return where, or None if it had ended."""
    if tally.by_time <= tally.by_file:
        after_s = draw.uniform(0, whole_s)
        process = _fork(command.start(out), work)
        time.sleep(after_s)
        os.kill(process, signal.SIGKILL)
        how = f"after {after_s:.2f} s"
        counted = "by_time"
    else:
        change = draw.randint(1, changes)
        process = _fork(command.start(out), work, kill_before=change)
        how = f"before change {change} of {changes}"
        counted = "by_file"
    _, status = os.waitpid(process, 0)
    if not os.WIFSIGNALED(status):
        tally.too_late += 1
        return None
    setattr(tally, counted, getattr(tally, counted) + 1)
    return how


def _go_on(command: Command, out: Path, work: Path, how: str, wanted: dict[str, str | None], tally: Tally) -> None:
    line = command.go_on(out) if (out / command.begun).exists() else command.start(out)
    if command.name == "export" and (out / command.final).exists():
        return  # it was whole, and was compared
    _, status = os.waitpid(_fork(line, work), 0)
    if os.waitstatus_to_exitcode(status):
        last = (work / "log").read_text(errors="replace").strip().splitlines()[-1:]
        tally.refused.append(f"{how}: {' '.join(last)}")
    elif _hashes(command, out) != wanted:
        tally.differ.append(how)


def _finish(line: Sequence[str], work: Path) -> int:
    """Run a command undisturbed; return how many changes of files it made."""
    _, status = os.waitpid(_fork(line, work, counting=True), 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit((work / "log").read_text())
    return int((work / "changes").read_text())


def _fork(line: Sequence[str], work: Path, *, kill_before: int = 0, counting: bool = False) -> int:
    from prunekit_cli.main import app

    process = os.fork()
    if process:
        return process
    os.chdir(work)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(log, 1)
    os.dup2(log, 2)
    counted = [0]
    _count_changes(work, counted, kill_before)
    code = 0
    try:
        app(list(line), standalone_mode=True)
    except SystemExit as ended:
        code = int(ended.code or 0)
    except BaseException as error:  # a traceback is an end that the parent reports
        print(f"{type(error).__name__}: {error}", flush=True)
        code = 1
    sys.stdout.flush()
    if counting:
        (work / "changes").write_text(str(counted[0]))
    os._exit(code)


def _count_changes(work: Path, counted: list[int], kill_before: int) -> None:
    """Count what changes files from now on; kill this process before change `kill_before`."""
    inside = str(work)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (opened or event in _CHANGES) or not str(args[0]).startswith(inside):
            return
        counted[0] += 1
        if counted[0] == kill_before:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _hashes(command: Command, out: Path) -> dict[str, str | None]:
    found = {name: out / name for name in command.equal}
    return {name: hashlib.sha256(p.read_bytes()).hexdigest() if p.is_file() else None for name, p in found.items()}


def _page(tallies: dict[str, Tally]) -> str:
    import torch

    lines = [
        "# Killed in the middle",
        "",
        f"`python benchmarks/kills.py`: torch {torch.__version__}, CPU, one thread. Kill -9 after a random part of the time "
        "that the command takes, or before a random change of a file. Whole: the final file name was there and its "
        "content was not that of an undisturbed run. Equal: gone on with as the command advises, the files are those of an "
        "undisturbed run, bit by bit.",
        "",
        "| command | kills after a time | before a change of a file | passed as whole, and was not | did not go on | other bits | equal |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, tally in tallies.items():
        kills = tally.by_time + tally.by_file
        wrong = [len(part) for part in (tally.passed_as_whole, tally.refused, tally.differ)]
        cells = [name, tally.by_time, tally.by_file, *wrong, kills - wrong[1] - wrong[2]]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    for name, tally in tallies.items():
        for what in ("passed_as_whole", "refused", "differ"):
            lines += [f"- {name}, {what}: {where}" for where in getattr(tally, what)]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
