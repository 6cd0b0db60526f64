"""Step criteria: the criteria against each other on DeepLabV3-ResNet50, one job of `criteria.py` a row."""

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from gpu_steps.step import Bench, GpuRefusedError, Job, Row, Step
from gpu_steps.tables import table

SCRIPT: Final = Path(__file__).parents[2] / "criteria.py"
RATIOS: Final = ("0.5", "0.75")
SEEDS: Final = (0, 1, 2)
CRITERIA: Final = (
    *("sirfp", "random", "l2", "group-norm", "sirfp-clique", "sirfp-unweighted", "sirfp, uniform"),
    *("sirfp, nothing compensated", "l2, nothing compensated", "taylor", "group-fisher", "sirfp-v2", "sirfp-paper"),
    *("l1", "slimming", "fpgm", "taylor-weight", "eic", "multi-task", "gmp", "pq-index", "lamp", "relevance", "obspa"),
)
"""The ones of most interest first: a table of the first rows says something too."""
OPTIONS: Final = (
    *("--data", "camvid", "--model", "torchvision:deeplabv3_resnet50", "--device", "cuda"),
    *("--size", "360x480", "--crop", "320x320", "--epochs", "50", "--tune-epochs", "3"),
)
DRY_OPTIONS: Final = (
    *("--data", "shapes", "--model", "python:prunekit.models.street:street_net?width=16", "--device", "cpu"),
    *("--epochs", "1", "--tune-epochs", "1"),
)
_WHAT: Final = {
    "as cut": "miou_cut",
    "compensated": "miou_compensated",
    "fine-tuned": "miou_after",
    "MACs left": "macs",
}
_NEEDS: Final = ("pydantic", "tomli_w", "safetensors", "PIL", "matplotlib")


def jobs(bench: Bench) -> Sequence[Job]:
    """Return the jobs: for each seed the dense network, then the criteria; at last the dense networks trained on."""
    names, seeds = (("l2",), SEEDS[:1]) if bench.dry_run else (CRITERIA, SEEDS)
    keys = [key for seed in seeds for key in (f"train|{seed}", *(f"prune|{name}|{seed}" for name in names))]
    keys += [] if bench.dry_run else [f"longer|{seed}" for seed in seeds]
    return [Job(key, functools.partial(_row, bench, key)) for key in keys]


def _row(bench: Bench, key: str) -> dict[str, Any]:
    """Run a job in a process of its own, which is killed when the time is over; a training goes on the next time.

    Raises:
        GpuRefusedError: CamVid was not named, what the job starts from is not there, or it failed.
    """
    if not bench.dry_run and not Path(bench.root, "train").is_dir():
        raise GpuRefusedError("The criteria need CamVid, in SegNet's layout. Give its folder: --root FOLDER")
    out = bench.out / "criteria"
    kind, _, rest = key.partition("|")
    if kind != "train" and not _result(out, f"train|{rest.rpartition('|')[2]}").exists():
        raise GpuRefusedError(f"{key} starts from a dense network that is not trained yet. Start again.")
    options = DRY_OPTIONS if bench.dry_run else (*OPTIONS, "--root", bench.root)
    command = [sys.executable, str(SCRIPT), *options, "--out", str(out), "--job", key]
    command += ["--ratios", *(RATIOS[:1] if bench.dry_run else RATIOS)]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    if done.returncode or not _result(out, key).exists():
        said = (done.stderr.strip().splitlines() or [""])[-1][:300]
        raise GpuRefusedError(f"criteria.py ended with exit code {done.returncode}: {said}")
    return json.loads(_result(out, key).read_text())


def _result(out: Path, job: str) -> Path:
    """Return where criteria.py keeps what a job found."""
    return out / "results" / (job.replace("|", "-").replace(", ", "-").replace(" ", "_") + ".json")


def _table(rows: Mapping[str, Row]) -> list[str]:
    how = (
        "`criteria.py` says how it is done; its options here: `"
        + " ".join(OPTIONS)
        + "`. Validation mIoU, mean over the seeds "
        "that were run, smallest and largest in brackets, sorted by the fine-tuned mean."
    )
    lines = [how, ""]
    for name, kind, what in (
        ("Dense", "train", "miou"),
        ("Unpruned with the same extra training", "longer", "miou_after"),
    ):
        values = [row[what] for key, row in rows.items() if key.startswith(f"{kind}|") and row.get(what) is not None]
        lines += [f"{name}: {_spread(values)}, seeds: {len(values)}.", ""] if values else []
    for ratio in RATIOS:
        lines += [f"## {float(ratio):.0%} of the MACs gone", "", *_ratio_table(rows, ratio), ""]
    return lines + [f"* {key} refused this network: {row['refused']}" for key, row in rows.items() if "refused" in row]


def _ratio_table(rows: Mapping[str, Row], ratio: str) -> list[str]:
    found: dict[str, list[Row]] = {}
    for key, row in rows.items():
        if key.startswith("prune|") and ratio in row.get("ratios", {}):
            found.setdefault(key.split("|")[1], []).append(row["ratios"][ratio])
    after = {name: sum(row["miou_after"] for row in cut) / len(cut) for name, cut in found.items()}
    cells = [
        [name, *(_spread([row[what] for row in found[name]]) for what in _WHAT.values()), str(len(found[name]))]
        for name in sorted(found, key=lambda name: -after[name])
    ]
    return table(("criterion", *_WHAT, "seeds"), cells)


def _spread(values: Sequence[float]) -> str:
    return f"{sum(values) / len(values):.3f} ({min(values):.3f}..{max(values):.3f})"


STEP = Step(
    "criteria", "Criteria against each other on DeepLabV3-ResNet50", (*_NEEDS, "torchvision"), _NEEDS, jobs, _table
)
