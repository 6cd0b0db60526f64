"""Rows of a benchmark, each in a process of its own with limits on time and memory, a JSON file each."""

import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Limits:
    """Of one process, its start included."""

    seconds: float
    gib: float


@dataclass(frozen=True)
class Task:
    """A command that writes `file`."""

    title: str
    command: Sequence[str]
    file: Path


def run_all(tasks: Sequence[Task], jobs: int, limits: Limits) -> None:
    """Run the tasks whose file is missing, some at a time; what ends without a file gets one that says so."""
    waiting = [task for task in tasks if not task.file.exists()]
    running: list[_Process] = []
    done, total = 0, len(waiting)
    try:
        while waiting or running:
            while waiting and len(running) < jobs:
                running.append(_Process(waiting.pop(0), limits))
            time.sleep(0.1)
            for process in [process for process in running if process.finished()]:
                running.remove(process)
                done += 1
                row = read_row(process.task.file)
                outcome = f"{row['status']} {row.get('error', '')}"[:160]
                print(f"{done}/{total} {process.task.title}: {outcome}", flush=True)
    finally:
        for process in running:
            process.child.kill()


class _Process:
    def __init__(self, task: Task, limits: Limits) -> None:
        self.task, self.limits = task, limits
        self.started_s = time.perf_counter()
        self.peak_gib = 0.0
        self.log = task.file.with_suffix(".log")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with self.log.open("w") as log:
            self.child = subprocess.Popen(task.command, stdout=log, stderr=log, env=environment)

    def finished(self) -> bool:
        """Tell whether the process has ended or was stopped at a limit; either way there is a JSON file then."""
        if self.child.poll() is None:
            self.peak_gib = max(self.peak_gib, _resident_gib(self.child.pid))
            too_late = time.perf_counter() - self.started_s > self.limits.seconds
            if not too_late and self.peak_gib < self.limits.gib:
                return False
            self.child.kill()
            self.child.wait()
            limit = f"time: {self.limits.seconds:g} s" if too_late else f"memory: {self.limits.gib:g} GiB"
            self._failed(f"over the limit of {limit}")
        elif not self.task.file.exists():
            self._failed(f"the process ended with {self.child.returncode}: {_last_line(self.log)}")
        self.log.unlink(missing_ok=True)
        return True

    def _failed(self, error: str) -> None:
        write_row(self.task.file, {"status": "failed", "error": error, "peak_gib": self.peak_gib})


def file_name(*words: str) -> str:
    """Return the name of a row's file."""
    return ".".join(re.sub(r"[^A-Za-z0-9_.+-]", "~", word) for word in words) + ".json"


def write_row(file: Path, row: Row) -> None:
    """Write a row, whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(row, indent=1))
    part.replace(file)


def read_row(file: Path) -> Row:
    """Return a row; an empty one where there is none."""
    return json.loads(file.read_text()) if file.exists() else {}


def _resident_gib(pid: int) -> float:
    """Linux: the highest resident size so far."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) / 2**20 if found else 0.0


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "no message"
