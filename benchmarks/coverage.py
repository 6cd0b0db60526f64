"""How many segmentation networks are pruned exactly, by prunekit and by Torch-Pruning 1.6.1 with its defaults.

    pip install transformers torch-pruning==1.6.1
    python benchmarks/coverage.py --out runs/coverage --jobs 2

Neither package is a dependency of prunekit. Every row runs in a process of its own, once for each tool, and leaves a JSON
file in --out; started again, the benchmark does what is missing. `--only REGEX` picks rows by name (library/network), and
`--table` writes docs/results/coverage.md from what is there.

prunekit removes half of the units of every free group, at random positions; widths of 1 stay. The error is the largest
difference from the masked dense network, relative to the largest output, in float32. Torch-Pruning removes half of the
channels by magnitude; the layers whose outputs are the network's outputs are ignored, as its documentation asks. It has
no reference to be exact against: a row is ok if the pruned network runs and returns the same shapes.
"""

import argparse
import random
import re
import resource
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from coverage_networks import Case, all_cases, make_lively
from coverage_table import write_table
from processes import Limits, Row, Task, file_name, read_row, run_all, write_row
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.errors import PrunekitError
from prunekit.pruning import Coupling, analyse, exactness, pruned
from prunekit.pruning.surgery import make_plan

TOLERANCE = 1e-4
TOOLS = ("prunekit", "torch_pruning")
ROOT = Path(__file__).parent.parent


def main() -> None:
    """Run what is missing, then write the table."""
    args = _arguments()
    if args.row:
        row = measure(all_cases(args.row.partition("/")[0])[args.row], args.tool)
        write_row(args.out / file_name(args.row, args.tool), row)
        return
    names = [name for name in all_cases() if re.search(args.only, name)]
    args.out.mkdir(parents=True, exist_ok=True)
    if not args.table:
        tasks = [_task(name, tool, args.out) for name in names for tool in args.tools]
        run_all(tasks, args.jobs, Limits(args.limit_s, args.limit_gib))
    rows = {(name, tool): read_row(args.out / file_name(name, tool)) for name in names for tool in TOOLS}
    write_table({key: row for key, row in rows.items() if row}, args.to)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/coverage"), help="folder of the JSON files")
    parser.add_argument("--to", type=Path, default=ROOT / "docs/results/coverage.md", help="the table's file")
    parser.add_argument("--only", default="", metavar="REGEX", help="rows whose name matches")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time, one thread each")
    parser.add_argument("--limit-s", type=float, default=60, help="time limit of a process, start included")
    parser.add_argument("--limit-gib", type=float, default=8, help="memory limit of a process")
    parser.add_argument("--table", action="store_true", help="only write the table")
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=TOOLS, help="run these only")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--tool", choices=TOOLS, help=argparse.SUPPRESS)
    return parser.parse_args()


def _task(name: str, tool: str, out: Path) -> Task:
    command = [sys.executable, __file__, "--row", name, "--tool", tool, "--out", str(out)]
    return Task(f"{tool:13} {name}", command, out / file_name(name, tool))


def measure(case: Case, tool: str) -> Row:
    """Build one network and prune it with one tool."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    images_13HW = case.images_13HW()
    row: Row = {"image_HW": list(case.image_HW), "torch": torch.__version__}
    try:
        network = case.build()
        make_lively(network, images_13HW)
    except Exception as error:  # a library's refusal is a result
        return {**row, "status": "not built", "error": _text(error)}
    row["params"] = sum(parameter.numel() for parameter in network.parameters())
    begun_s = time.process_time()
    run = _prunekit if tool == "prunekit" else _torch_pruning
    try:
        run(network, images_13HW, row)
    except Exception as error:
        row |= {"status": "failed", "error": _text(error)}
    row["total_cpu_s"] = time.process_time() - begun_s
    row["peak_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return row


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]


def _prunekit(network: nn.Module, images_13HW: Tensor, row: Row) -> None:
    begun_s = time.process_time()
    try:
        coupling = analyse(network, (images_13HW,))
    except PrunekitError as error:
        row |= {"status": "refused", "error": str(error)[:400]}
        return
    finally:
        row["analysis_cpu_s"] = time.process_time() - begun_s
    row |= _frozen(coupling)
    keep = {group.name: half_of(group.width) for group in coupling.free}
    row["macs_removed"] = 1 - coupling.macs(keep) / coupling.macs()
    plan = make_plan(coupling, keep)
    row["params_removed"] = 1 - sum(p.numel() for p in pruned(network, plan).parameters()) / row["params"]
    row["error_relative"] = exactness(network, plan, (images_13HW,))
    # Written so that NaN is not exact.
    row["status"] = "exact" if row["error_relative"] <= TOLERANCE else "inexact"


def half_of(width: int) -> list[int]:
    """Return half of the positions of a group, at random, the same each time."""
    return sorted(random.Random(width).sample(range(width), (width + 1) // 2))


def _frozen(coupling: Coupling) -> Row:
    """Count the output channels of all layers, those that must stay, and why."""
    reason_by_label = {label: g.frozen for g in coupling.groups if g.frozen for label in g.units.tolist()}
    layers = [s for s in coupling.slots if s.role == "out" and len(coupling.shapes.get(s.parameter, ())) > 1]
    channels = [label for slot in layers for label in slot.labels.tolist()]
    reasons = Counter(reason_by_label[label] for label in channels if label in reason_by_label)
    share = sum(reasons.values()) / max(len(channels), 1)
    return {"groups": len(coupling.groups), "frozen": share, "reasons": dict(reasons.most_common())}


def _torch_pruning(network: nn.Module, images_13HW: Tensor, row: Row) -> None:
    import torch_pruning as tp  # pyright: ignore[reportMissingImports]  no dependency

    ignored = _final_layers(network, images_13HW)
    row["ignored"] = [name for name, module in network.named_modules() if module in ignored]
    shapes, before = _shapes(network, images_13HW), _ops(network, images_13HW)
    begun_s = time.process_time()
    pruner = tp.pruner.MagnitudePruner(
        network, images_13HW, tp.importance.MagnitudeImportance(), pruning_ratio=0.5, ignored_layers=ignored
    )
    row["analysis_cpu_s"] = time.process_time() - begun_s
    pruner.step()
    row["params_removed"] = 1 - sum(parameter.numel() for parameter in network.parameters()) / row["params"]
    after = _shapes(network, images_13HW)
    row["status"] = "ok" if after == shapes else "shape wrong"
    if after != shapes:
        row["error"] = f"{after} instead of {shapes}"
    ops = _ops(network, images_13HW)
    row["macs_removed"] = 1 - ops / before if ops and before else None


def _ops(network: nn.Module, images_13HW: Tensor) -> float | None:
    """Torch-Pruning's own count, or None where only the counting fails."""
    import torch_pruning as tp  # pyright: ignore[reportMissingImports]  no dependency

    try:
        return float(tp.utils.count_ops_and_params(network, images_13HW)[0])
    except Exception:
        return None


def _outputs(raw: object) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(raw) if isinstance(leaf, Tensor) and leaf.is_floating_point()]


@torch.no_grad()
def _shapes(network: nn.Module, images_13HW: Tensor) -> list[tuple[int, ...]]:
    return [tuple(leaf.shape) for leaf in _outputs(network.eval()(images_13HW))]


def _final_layers(network: nn.Module, images_13HW: Tensor) -> list[nn.Module]:
    """Return the layers each of whose channels reaches only the same channel of an output: the classifiers."""
    modes = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    network.requires_grad_(False)
    nudges: dict[nn.Module, Tensor] = {}

    def nudge(layer: nn.Module, _: object, output: Tensor) -> Tensor:
        nudges[layer] = torch.zeros_like(output).requires_grad_()
        return output + nudges[layer]

    widths = {shape[1] for shape in _shapes(network, images_13HW) if len(shape) == 4}
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    hooks = [layer.register_forward_hook(nudge) for layer in layers if layer.weight.shape[0] in widths]
    final: dict[nn.Module, None] = {}
    for output in _outputs(network.eval()(images_13HW)):
        for layer, delta in nudges.items():
            if output.requires_grad and _one_to_one(output, delta, isinstance(layer, nn.Linear)):
                final[layer] = None
    for hook in hooks:
        hook.remove()
    for parameter, needed in modes:
        parameter.requires_grad_(needed)
    return list(final)


def _one_to_one(output_1KHW: Tensor, delta: Tensor, last_dim: bool) -> bool:
    # Zeros where the output does not depend on the layer.
    (grad,) = torch.autograd.grad(output_1KHW[:, 1].sum(), delta, retain_graph=True, materialize_grads=True)
    touched = grad.movedim(-1 if last_dim else 1, 0).flatten(1).abs().amax(1) > 0
    return touched.nonzero().flatten().tolist() == [1]


if __name__ == "__main__":
    main()
