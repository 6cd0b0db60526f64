"""Options of `prunekit export` about engines: what is mistyped is said before anything is read."""

import pytest
from typer.testing import CliRunner

from prunekit_cli.main import app
from prunekit_cli.options.engine import engine_options, profile
from prunekit_export.engine import DEFAULT_TARGETS, Profile

CLI = CliRunner()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--min", "1x3x64", "--opt", "1x3x64x96", "--max", "1x3x64x96"], "--min takes four sizes"),
        (["--min", "1x3x64x96", "--opt", "1x3x0x96", "--max", "1x3x64x96"], "--opt takes four sizes"),
        (["--min", "1x3x64x96", "--opt", "1x3x64x96", "--max", "1x3x64x\u0663"], "--max takes four sizes"),
        (["--min", "1x3x64x96", "--opt", "1x3x64x96", "--max", "1x3x64x" + "9" * 5000], "--max takes four sizes"),
        (["--max", "1x3x64x96"], "--min, --opt is missing"),
        (["--workspace", "64"], "--workspace is about an engine"),
        (["--target", "sm89", "--refit"], "--target, --refit is about an engine"),
        (["--trt", "--optimization-level", "9"], "0 (fast build) to 5; got 9"),
        (["--trt", "--workspace", "0"], "MiB; got 0"),
        (["--trt", "--package", "openvino"], "auto, tensorrt or tensorrt_rtx; got 'openvino'"),
    ],
)
def test_what_cannot_be_built_is_said(flags: list[str], said: str) -> None:
    done = CLI.invoke(app, ["export", *flags])
    assert done.exit_code == 2
    assert said in done.output
    assert "Traceback" not in done.output


def test_what_was_typed_is_what_is_asked_for() -> None:
    kinds = {"version_compatible": True, "hardware_compatible": False, "refit": True}
    asked = engine_options("tensorrt-rtx", ["sm89", "SM120"], 128, 2, None, tf32=True, **kinds)
    assert (asked.package, asked.targets, asked.tf32) == ("tensorrt_rtx", ("SM89", "SM120"), True)
    assert (asked.workspace_mib, asked.optimization_level, asked.version_compatible, asked.refit) == (
        128,
        2,
        True,
        True,
    )
    usual = engine_options("auto", None, None, None, None, tf32=False, **dict.fromkeys(kinds, False))
    assert usual.targets == DEFAULT_TARGETS
    sizes = profile("1x3x8X16", "2x3x16x32", "4x3x32x64")
    assert sizes == Profile((1, 3, 8, 16), (2, 3, 16, 32), (4, 3, 32, 64))
    assert profile(None, None, None) is None
