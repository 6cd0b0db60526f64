"""Everything that only a GPU can show, in steps that can be interrupted and go on where they were.

    PYTHONPATH=.:export:deploy python benchmarks/gpu.py --list
    PYTHONPATH=.:export:deploy python benchmarks/gpu.py --step torch-latency
    PYTHONPATH=.:export:deploy python benchmarks/gpu.py --pages

needs no installation but torch with CUDA; what a step lacks besides, --list names. Each row of a table is kept in
OUT/STEP.json as soon as it is measured, with the GPU, its clocks and all versions. A start ends within --limit-s; the same
command does the rest. --pages writes docs/results/gpu_STEP.md from measured rows. Clocks and other settings of the GPU are
read, never changed.

--dry-run does a few iterations of every step on the CPU with a tiny network, by the same code but for CUDA graphs. Its rows
are marked, kept apart (OUT/dry-run) and become no page.

Exit code: 0 all rows are there, 1 some cannot be measured here (the reason is printed and kept), 3 start again for the rest.
"""

import argparse
import signal
import sys
import time
from pathlib import Path

import torch
from gpu_steps.running import DONE, REFUSED, page, path_of, run_steps
from gpu_steps.step import Bench, GpuRefusedError, Step, advice
from gpu_steps.steps import STEPS
from gpu_steps.store import content_of

from prunekit.storing import write_atomically

RESULTS = Path(__file__).parents[1] / "docs" / "results"
LIMIT_S = 540


def main() -> int:
    """Run, list, or write pages."""
    args = _parser().parse_args()
    out = args.out / "dry-run" if args.dry_run else args.out
    bench = Bench(out, args.dry_run, args.root, time.monotonic() + args.limit_s)
    steps = [STEPS[name] for name in args.step or STEPS]
    try:
        if args.list:
            return _list(steps, bench)
        return _pages(steps, bench, args.results) if args.pages else _measure(steps, bench)
    except GpuRefusedError as error:
        print(error, file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", nargs="+", choices=STEPS, metavar="NAME", help="these only; default: all, in order")
    parser.add_argument("--list", action="store_true", help="show the steps, what is done, and what they lack here")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="where rows are kept")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="of this start")
    parser.add_argument("--root", default="", help="folder of CamVid, for the criteria")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny, a few iterations")
    parser.add_argument("--pages", action="store_true", help="write the tables of what was measured; needs no GPU")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the pages")
    return parser


def _measure(steps: list[Step], bench: Bench) -> int:
    if not bench.dry_run and not torch.cuda.is_available():
        raise GpuRefusedError("torch sees no CUDA device here. Run it on a machine with one, or try it: --dry-run")
    signal.signal(signal.SIGTERM, _ended)
    if bench.dry_run:
        torch.set_num_threads(1)  # nothing here is large enough to be shared
    code = run_steps(steps, bench)
    for step in steps if bench.dry_run else ():
        print(page(step, content_of(path_of(step, bench.out)), len(step.jobs(bench))))
    return code


def _ended(*_: object) -> None:
    """End as Ctrl-C does, so that a process begun by a row ends too."""
    sys.exit(128 + signal.SIGTERM)


def _list(steps: list[Step], bench: Bench) -> int:
    for step in steps:
        jobs, store = step.jobs(bench), path_of(step, bench.out)
        done = len(content_of(store)["rows"]) if store.exists() else 0
        missing = list(dict.fromkeys(name for job in jobs for name in step.missing(bench, job)))
        print(f"{step.name}: {done} of {len(jobs)} rows. {step.title}.")
        if missing:
            print(f"    {advice(missing)}")
    return DONE


def _pages(steps: list[Step], bench: Bench, results: Path) -> int:
    """Write a page for each step that has rows."""
    if bench.dry_run:
        raise GpuRefusedError("A dry run measures nothing. Leave out --dry-run.")
    for step in steps:
        content = content_of(path_of(step, bench.out)) if path_of(step, bench.out).exists() else {"rows": {}}
        if not content["rows"]:
            print(f"{step.name}: nothing is measured yet, so it has no page", file=sys.stderr)
            continue
        if content["dry_run"]:
            raise GpuRefusedError(f"{path_of(step, bench.out)} is of a dry run. Give the --out of what was measured.")
        path = results / f"gpu_{step.name.replace('-', '_')}.md"
        write_atomically(path, page(step, content, len(step.jobs(bench))).encode())
        print(path)
    return DONE


if __name__ == "__main__":
    sys.exit(main())
