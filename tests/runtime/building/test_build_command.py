"""`python3 -m prunekit_runtime build`: what it prints, writes and ends with."""

import io
import json
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from prunekit_runtime.__main__ import main
from prunekit_runtime.commands.stepline import StepLine

Run = Callable[..., int]


@pytest.fixture
def run(bundle: Any, world: Any, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on the bundle of the stand-in, opened without its checks."""
    reader = SimpleNamespace(open_bundle=lambda _: bundle)
    monkeypatch.setitem(sys.modules, "prunekit_runtime.bundle", reader)  # pyright: ignore[reportArgumentType]
    return lambda *arguments: main(["build", "--bundle", str(bundle.folder), *arguments])


def test_every_model_is_built_and_told(run: Run, bundle: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    printed = capsys.readouterr()
    assert "labels.fp32: " in printed.out
    assert "3 convolutions and matrix products: 100 % fp16; TF32 off" in printed.out
    assert "Timing graph nodes" in printed.err
    report = json.loads((bundle.reports_dir / "build.json").read_text())
    assert [each["entry"] for each in report["built"]] == ["labels.fp32", "labels.fp16"]
    assert report["failed"] == []
    assert run() == 0
    assert "kept, since its key fits" in capsys.readouterr().out


def test_one_precision_alone_and_json_for_programs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--precision", "fp16", "--json") == 0
    [built] = json.loads(capsys.readouterr().out)["built"]
    assert (built["precision"], built["is_new"], built["made"]["tf32"]) == ("fp16", True, False)


def test_a_model_that_fails_does_not_stop_the_others(
    run: Run, bundle: Any, world: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    world.weights, world.kernels = "Float", "f32f32_f32f32_f32"
    assert run() == 1
    printed = capsys.readouterr()
    assert "labels.fp16: fp16 was asked for, and the engine computes 3 of its 3" in printed.err
    report = json.loads((bundle.reports_dir / "build.json").read_text())
    assert [each["entry"] for each in report["failed"]] == ["labels.fp16"]
    assert [each["entry"] for each in report["built"]] == ["labels.fp32"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--precision", "int9"), "no model of --precision int9. It has: fp16, fp32."),
        (("--optimization-level", "7"), "Give 0 (fast build) to 5"),
        (("--workspace", "0"), "Give MiB from 1"),
        (("--min", "1x32x32x3"), "alone, so --min, --opt and --max have no use"),
        (("--precision", "fp16", "--min", "1x32x32x3"), "go together"),
        (("--backend", "ort", "--tf32"), "--tf32 is for TensorRT"),
    ],
)
def test_wrong_use_is_exit_code_2(
    run: Run, bundle: Any, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*arguments) == 2
    assert words in capsys.readouterr().err
    assert not list(bundle.built_dir.glob("*.plan")) if bundle.built_dir.exists() else True


@pytest.mark.parametrize("shape", ["1x3", "axb", "1x3x0x8", "1x3x99999x8"])
def test_a_shape_that_is_none_is_told_by_the_parser(run: Run, shape: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run("--opt", shape)
    assert ended.value.code == 2
    assert "--opt" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_has_one_line_that_is_written_over() -> None:
    stream, clock = Terminal(), iter([0.0, 0.05, 1.0])
    line = StepLine(stream, lambda: next(clock))
    for text in ("a 1/9", "a 2/9", "a 3/9\x1b[31m"):
        line(text)
    line.close()
    assert stream.getvalue() == "\r\x1b[K    0 s  a 1/9\r\x1b[K    1 s  a 3/9\\x1b[31m\r\x1b[K"


def test_a_file_has_a_line_for_each_phase_and_one_every_ten_seconds() -> None:
    stream, clock = io.StringIO(), iter([0.0, 1.0, 2.0, 3.0, 13.0])
    line = StepLine(stream, lambda: next(clock))
    for text in ("a 1/9", "a 2/9", "b 1/9", "b 2/9", "b 3/9"):
        line(text)
    line.close()
    assert stream.getvalue().splitlines() == ["    0 s  a 1/9", "    2 s  b 1/9", "   13 s  b 3/9"]
