"""What fp16 and int8 cost on CamVid: mIoU of the files of networks that were trained with several seeds.

    python benchmarks/precision_table.py --root .../camvid --out runs/precision

trains three networks for each seed (runs that are there are kept, so it can be interrupted), writes every file and evaluates it
on all validation images with ONNX Runtime as written, and writes docs/results/precision.md. Speed is not looked at: a CPU says
nothing on an int8 engine.
"""

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from prunekit.recipe import parse_recipe
from prunekit.run import RunDirectory, write_json
from prunekit.workflows.train import train
from prunekit_export.running import evaluate_model
from prunekit_export.workflow import ExportConfig, export_model

NETWORKS: dict[str, tuple[str, str, int, float]] = {
    "street_net": ("street", "street_net", 15, 4e-3),
    "DeepLabV3+-MobileNetV2": ("deeplab", "smp:DeepLabV3Plus?encoder=mobilenet_v2", 8, 1e-3),
    "SegFormer-B0": ("segformer", "smp:Segformer?encoder=mit_b0", 8, 1e-3),
}
"""By the name in the table: folder, model, epochs, learning rate. All start from random weights."""
FILES: dict[str, dict[str, Any]] = {
    "fp16": {"precision": "fp16"},
    "int8, entropy": {"precision": "int8", "calibration": "entropy", "max_miou_drop": 100},
    "int8, percentile": {"precision": "int8", "calibration": "percentile", "max_miou_drop": 100},
    "int8, minmax": {"precision": "int8", "calibration": "minmax", "max_miou_drop": 100},
    "auto, 0.5 points, entropy": {"precision": "auto", "calibration": "entropy", "max_miou_drop": 0.5},
}


def main() -> None:
    """Train, export and evaluate what is missing, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", required=True, help="folder of CamVid")
    parser.add_argument("--out", type=Path, default=Path("runs/precision"), help="where runs and results go")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--networks", nargs="*", choices=NETWORKS, default=list(NETWORKS))
    parser.add_argument("--table", type=Path, default=Path("docs/results/precision.md"))
    args = parser.parse_args()
    tables = [
        _table(name, [row for seed in range(args.seeds) for row in _seed(name, seed, args.root, args.out)])
        for name in args.networks
    ]
    args.table.write_text("\n\n".join([_head(args.seeds), *tables]) + "\n")


def _seed(name: str, seed: int, root: str, out: Path) -> Iterator[dict[str, Any]]:
    folder, model, epochs, lr = NETWORKS[name]
    run = RunDirectory(out / f"{folder}-{seed}")
    if not (run.path / "model.safetensors").exists():
        run.path.mkdir(parents=True, exist_ok=True)
        train(_recipe(model, epochs, lr, seed, root), run, resume=any(run.path.iterdir()))
    for file, options in FILES.items():
        kept = run.path / f"{file.replace(', ', '-').replace(' ', '-')}.json"
        if not kept.exists():
            write_json(kept, _row(run, file, options, seed))
        yield json.loads(kept.read_text())


def _recipe(model: str, epochs: int, lr: float, seed: int, root: str) -> Any:
    size = {"height": 180, "width": 240, "crop_height": 160, "crop_width": 208}
    training = {"epochs": epochs, "lr": lr, "threads": 1, "eval_every": epochs, "seed": seed}
    data = {"name": "camvid", "root": root, **size}
    return parse_recipe({"data": data, "model": {"name": model}, "train": training})


def _row(run: RunDirectory, name: str, options: dict[str, Any], seed: int) -> dict[str, Any]:
    folder = run.path / name.replace(", ", "-").replace(" ", "-")
    summary = export_model(run, ExportConfig(**options), folder).summary
    low = summary.onnx_int8 or summary.onnx_half
    assert low is not None
    data = run.recipe().data
    full, lowered = (
        evaluate_model(path, data=data, threads=1).metrics["miou"] for path in (summary.onnx_path, low.path)
    )
    report = summary.int8
    cost = report.cost if report else summary.half_cost
    assert cost is not None
    macs = summary.parity_half.macs if summary.parity_half else report.macs if report else {}
    return {
        "file": name,
        "seed": seed,
        "fp32": full,
        "miou": lowered,
        "macs": dict(macs),
        "agreement": cost.judged.agreement,
        "int8_layers": len(report.layers.quantised) if report else None,
    }


def _head(seeds: int) -> str:
    return (
        "# Precisions on CamVid\n\n"
        f"`python benchmarks/precision_table.py --root .../camvid`: networks from random weights at 180x240, {seeds} seeds. mIoU "
        "in points of the ONNX files on the 101 validation images, computed by ONNX Runtime on a CPU as the files are written; "
        "the loss is that against the float32 file of the same seed, mean and range over seeds. int8 is calibrated on 64 "
        "training images; labels are those shared with the float32 file on the images that the export judges by, 16 for fp16, "
        "all for int8. No engine was run."
    )


def _table(network: str, rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"## {network}, {NETWORKS[network][2]} epochs",
        "",
        "| file | mIoU | loss [points] | float32's labels | MACs in int8 | layers in int8 |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines.append(f"| float32 | {_spread([row['fp32'] for row in rows if row['file'] == 'fp16'], 100)} | | | | |")
    for name in FILES:
        own = [row for row in rows if row["file"] == name]
        losses = [row["fp32"] - row["miou"] for row in own]
        shares = [row["macs"].get("int8", 0.0) for row in own]
        known = [row for row in own if row["int8_layers"] is not None]
        agreement = f"{100 * statistics.mean(row['agreement'] for row in own):.2f} %"
        layers = ", ".join(str(row["int8_layers"]) for row in known)
        lines.append(
            f"| {name} | {_spread([row['miou'] for row in own], 100)} | {_spread(losses, 100)} | {agreement} | "
            f"{100 * statistics.mean(shares):.0f} % | {layers} |"
        )
    return "\n".join(lines)


def _spread(values: Sequence[float], scale: float) -> str:
    mean, low, high = statistics.mean(values), min(values), max(values)
    return f"{scale * mean:.2f} ({scale * low:.2f}..{scale * high:.2f})"


if __name__ == "__main__":
    main()
