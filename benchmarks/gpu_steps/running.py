"""Doing what is not done yet of a step, within the time of one start."""

import signal
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from gpu_steps.machine import describe
from gpu_steps.step import Bench, GpuRefusedError, Job, Row, Step, TimeUpError, advice
from gpu_steps.store import Store
from prunekit.errors import PrunekitError

DONE, REFUSED, MORE = 0, 1, 3
"""Exit codes: all rows are there; some cannot be measured here; start again for the rest."""


def run_steps(steps: list[Step], bench: Bench) -> int:
    """Do what there is time for; return the exit code."""
    machine = describe(bench.device)
    codes = [_run_step(step, bench, machine) for step in steps]
    return max(codes, default=DONE)


def path_of(step: Step, out: Path) -> Path:
    """Return where a step keeps its rows."""
    return out / f"{step.name}.json"


def _run_step(step: Step, bench: Bench, machine: dict[str, Any]) -> int:
    store, jobs, code, longest_s = (
        Store(path_of(step, bench.out), machine, dry_run=bench.dry_run),
        step.jobs(bench),
        0,
        0.0,
    )
    left = [job for job in jobs if not store.has(job.key)]
    _say(f"{step.name}: {len(jobs) - len(left)} of {len(jobs)} rows are there")
    for number, job in enumerate(left):
        if bench.left_s() < 1.5 * longest_s:
            _say(f"{step.name}: {len(left) - number} rows are left. Start again.")
            return MORE
        started_s = time.monotonic()
        reason = _tried(step, bench, job, store)
        longest_s = max(longest_s, time.monotonic() - started_s)
        if reason is TimeUpError:
            _say(f"{step.name}: {len(left) - number} rows are left. Start again.")
            return MORE
        if isinstance(reason, str):
            store.refuse(job.key, reason)
            code = REFUSED
        _say(f"  {job.key}: {reason or f'{time.monotonic() - started_s:.1f} s'}")
    return code


def _tried(step: Step, bench: Bench, job: Job, store: Store) -> str | type[TimeUpError] | None:
    """Do a job and keep its row; return why it is not there."""
    missing = step.missing(bench, job)
    if missing:
        return advice(missing)
    try:
        with limited(bench):
            row = job.run()
    except TimeUpError:
        return TimeUpError
    except (GpuRefusedError, PrunekitError) as error:
        return str(error)
    except Exception as error:  # the other rows are measured all the same; what happened stands in the file
        return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:300]}"
    finally:
        if bench.device == "cuda":
            torch.cuda.empty_cache()
    store.put(job.key, row)
    return None


@contextmanager
def limited(bench: Bench) -> Generator[None]:
    """Raise TimeUpError in the block when the time of this start is over.

    A call into a library that does not return cannot be interrupted so; the rows before it are on disk.
    """

    def ring(_: int, __: FrameType | None) -> None:
        raise TimeUpError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, max(bench.left_s(), 0.01))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def page(step: Step, content: Mapping[str, Any], planned: int) -> str:
    """Return the page of a step, from the rows of its file, of which there will be so many.

    Raises:
        GpuRefusedError: there is none.
    """
    rows: Mapping[str, Row] = content["rows"]
    if not rows:
        raise GpuRefusedError(f"{step.name} has no rows yet. Run: python benchmarks/gpu.py --step {step.name}")
    machine, marked = content["machine"], "DRY RUN, nothing was measured: " if content["dry_run"] else ""
    versions = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    facts = [
        f"torch {machine['torch']}",
        *(f"{name} {machine[name]}" for name in ("cuda", "cudnn", "driver") if machine.get(name)),
    ]
    lines = [
        f"# {marked}{step.title}",
        "",
        f"`python benchmarks/gpu.py --step {step.name}`: {machine['device']}, {', '.join(facts)}",
    ]
    lines[-1] += f", {versions}; host {machine['cpu']}; prunekit {machine['commit'] or machine['prunekit']}."
    lines += ["", *_clocks(rows), *step.table(rows), ""]
    left = planned - len(rows) - len(content["refused"])
    lines += [f"{left} of {planned} rows were not tried yet.", ""] if left else []
    refused: Mapping[str, str] = content["refused"]
    lines += ["Not measured:", "", *(f"* {key}: {reason}" for key, reason in refused.items()), ""] if refused else []
    return "\n".join(lines).rstrip() + "\n"


def _clocks(rows: Mapping[str, Row]) -> list[str]:
    """Return in which clocks and temperatures rows were measured, where the GPU told them."""
    cards = [row["after"]["card"] for row in rows.values() if row.get("after", {}).get("card")]
    clock_MHz = [card["graphics_mhz"] for card in cards if card["graphics_mhz"] is not None]
    celsius = [card["temperature_celsius"] for card in cards if card["temperature_celsius"] is not None]
    if not clock_MHz:
        return []
    heat = f", {min(celsius)} to {max(celsius)} degrees Celsius" if celsius else ""
    most = cards[0]["graphics_max_mhz"]
    return [f"Right after the rows the clock was {min(clock_MHz)} to {max(clock_MHz)} MHz of {most}{heat}.", ""]


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
