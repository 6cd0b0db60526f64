"""Situations in which prunekit advises a command: each prints the message, and leaves the folder as it was then."""

import contextlib
import functools
import io
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_runtime import __main__ as runtime

PAGES = ("", *sorted(get_command(app).commands), "data check", "data init")


def told(*arguments: str) -> str:
    """Return all that a command prints."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "400")
        result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.output


def told_on_the_device(*arguments: str) -> str:
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        runtime.main(list(arguments))
    return out.getvalue()


def of(*arguments: str) -> Callable[[], str]:
    return lambda: told(*arguments)


def in_an_empty_folder(*arguments: str) -> Callable[[], str]:
    def scenario() -> str:
        Path("empty").mkdir()
        os.chdir("empty")
        return told(*arguments)

    return scenario


def interrupted(*arguments: str) -> Callable[[], str]:
    """Return a scenario of Ctrl-C in the first step."""

    def scenario() -> str:
        from prunekit_cli.showing.observing import TrainingProgress

        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TrainingProgress, "on_step", stop)
            return told(*arguments)

    return scenario


def no_finished_run() -> str:
    os.chdir("experiments")
    interrupted("train")()
    return told("prune")


def unfinished(command: str) -> Callable[[], str]:
    def scenario() -> str:
        interrupted(command, "--out", "begun")()
        return told("eval", "begun") + told("status", "begun")

    return scenario


def a_spoilt_mask() -> str:
    mask = Path("town/masks/0.png")
    mask.unlink()
    mask.write_bytes(b"no picture")
    return told("data", "init", "town")


def a_run_in_the_way() -> str:
    interrupted("train", "--out", "begun")()
    return told("train", "--out", "begun")


def a_pruning_in_the_way() -> str:
    interrupted("prune", "--out", "begun")()
    return told("prune", "--out", "begun")


def export_of_classes_alone() -> str:
    """Return what is said of an import that names no images."""
    imported = "import --model python:tinynets:small --weights small.pth --size 64x96 --classes voc.txt --out theirs"
    return told(*shlex.split(imported)) + told("export", "theirs")


def spoilt(run: str) -> Callable[[], str]:
    def scenario() -> str:
        weights = Path(run, "model.safetensors")
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.unlink()
        weights.write_bytes(content)
        return told("eval", run)

    return scenario


def a_damaged_bundle() -> str:
    Path("orin").mkdir()
    Path("orin/bundle.json").write_text("{")
    return told_on_the_device("check", "--bundle", "orin")


def no_contract() -> str:
    Path("preprocessing.json").unlink()
    return told("eval", "model.onnx", "--data", "camvid", "--root", "camvid")


def an_unfinished_export() -> str:
    Path("dense/.unproved").mkdir(parents=True)
    Path("model.onnx").rename("dense/model.onnx")
    return told("eval", "dense/model.onnx", "--data", "camvid", "--root", "camvid")


def pictures_of_another_size() -> str:
    told("export", "runs/0001-train", "--end2end", "--picture-size", "40x56", "--out", "runs/0001-train/whole")
    return told("eval", "runs/0001-train/whole/model.labels.onnx")


def foreign_code() -> str:
    told("train", "--model", "python:mynets.tiny:build", "--out", "theirs")
    return told("eval", "theirs")


def not_an_engine() -> str:
    Path("bad.plan").write_bytes(b"nothing of TensorRT's" * 4)
    return told_on_the_device("bench", "bad.plan")


def not_a_model() -> str:
    return told_on_the_device("bench", "voc.txt")


def no_onnx_file() -> str:
    from prunekit_runtime.running.ort import OrtRunner

    with pytest.raises(runtime.PrunekitError) as error:
        OrtRunner(Path("no.onnx"))
    return str(error.value)


def another_onnx(kind: str, outputs: int) -> Callable[[], str]:
    """Return a scenario of a file that somebody else's exporter wrote."""

    def scenario() -> str:
        import onnx
        from onnx import TensorProto, helper

        element = getattr(TensorProto, kind)
        value = helper.make_tensor_value_info("image", element, [1, 3, 8, 8])
        names = [f"logits{number}" for number in range(outputs)]
        nodes = [helper.make_node("Identity", ["image"], [name]) for name in names]
        made = [helper.make_tensor_value_info(name, element, [1, 3, 8, 8]) for name in names]
        graph = helper.make_graph(nodes, "theirs", [value], made)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), "theirs.onnx")
        return told_on_the_device("bench", "theirs.onnx")

    return scenario


def a_golden_file_of_another_model() -> str:
    import numpy as np

    np.savez("golden.npz", images=np.zeros((1, 3, 8, 8), np.float32), logits=np.zeros((2, 3, 8, 8), np.float32))
    return told_on_the_device("bench", "model.onnx", "--golden", "golden.npz")


def a_latency_without_a_table() -> str:
    from prunekit.errors import PruneError
    from prunekit.workflows.pruning.selecting import table_of

    class Now:
        table = None

    with pytest.raises(PruneError) as error:
        table_of(Now())  # type: ignore[arg-type]  # all that is looked at
    return str(error.value)


SCENARIOS: dict[str, Callable[[], str]] = {
    **{f"{page} --help": of(*page.split(), "--help") for page in PAGES},
    "no run yet": in_an_empty_folder("prune"),
    "no such run, nor any other": in_an_empty_folder("prune", "runs/0001-train"),
    "no runs to list": in_an_empty_folder("runs"),
    "no run to tell of": in_an_empty_folder("status"),
    "a file for a run": of("prune", "model.onnx"),
    "a data set for a run": of("prune", "street"),
    "status of a training": of("status", "runs/0001-train"),
    "status of a pruning": of("status", "runs/0002-prune"),
    "no finished run": no_finished_run,
    "an unfinished training": unfinished("train"),
    "an unfinished pruning": unfinished("prune"),
    "a class list is there": of("data", "init", "street"),
    "a mask that cannot be read": a_spoilt_mask,
    "no such run to export": in_an_empty_folder("export", "runs/0001-train"),
    "train": of("train"),
    "train interrupted": interrupted("train"),
    "train on a pruning": of("train", "--resume", "runs/0002-prune"),
    "train on an import": of("train", "--resume", "runs/0003-import"),
    "train with a teacher": of("train", "--set", "train.distill=logits"),
    "train towards groups": of("train", "--set", "train.sparsity=group"),
    "train into a begun training": a_run_in_the_way,
    "train into a begun pruning": a_pruning_in_the_way,
    "import": of(*shlex.split(
        "import --model python:tinynets:small --weights small.pth --size 64x96 --data folder --root street"
    )),
    "prune": of("prune"),
    "prune interrupted": interrupted("prune", "runs/0001-train"),
    "prune a training on": of("prune", "--resume", "runs/0001-train"),
    "prune by a latency that was not measured": a_latency_without_a_table,
    "a file of another tool": of("export", "network.onnx", "--out", "made"),
    "export": of("export"),
    "export of classes alone": export_of_classes_alone,
    "demo": of("demo"),
    "weights spoilt": spoilt("runs/0001-train"),
    "pruned weights spoilt": spoilt("runs/0002-prune"),
    "code of others": foreign_code,
    "pictures of another size": pictures_of_another_size,
    "a run on TensorRT": of("eval", "runs/0001-train", "--provider", "tensorrt"),
    "a file without its contract": no_contract,
    "an unfinished export": an_unfinished_export,
    "a damaged bundle": a_damaged_bundle,
    "no such model": lambda: told_on_the_device("bench", "no.onnx"),
    "not an engine": not_an_engine,
    "not a model": not_a_model,
    "no such ONNX file": no_onnx_file,
    "two outputs": another_onnx("FLOAT", 2),
    "half precision": another_onnx("FLOAT16", 1),
    "golden file of another model": a_golden_file_of_another_model,
}  # fmt: skip


@dataclass(frozen=True)
class Provoked:
    """What a scenario printed, where it stood at its end, and whether it left the folder as it was."""

    name: str
    root: Path
    folder: Path
    output: str
    error: BaseException | None
    unchanged: bool


@pytest.fixture(scope="module")
def provoked(tmp_path_factory, enter_world) -> Callable[[str], Provoked]:
    """Return a function that plays a scenario, once."""
    pytest.importorskip("onnxruntime")

    @functools.cache
    def play(name: str) -> Provoked:
        here = tmp_path_factory.mktemp("advice") / "here"
        with enter_world(here):
            before = sorted(here.rglob("*"))
            output, error = "", None
            try:
                output = SCENARIOS[name]()
            except Exception as raised:
                error = raised
            return Provoked(name, here, Path.cwd(), output, error, unchanged=sorted(here.rglob("*")) == before)

    return play


@pytest.fixture(params=SCENARIOS)
def scenario(request, provoked) -> Provoked:
    return provoked(request.param)


@pytest.fixture
def scenarios(provoked) -> Iterator[Provoked]:
    return map(provoked, SCENARIOS)
