"""trtexec's lines: what both generations take, and the sizes that an engine of ours gets."""

import shlex
from pathlib import Path

import pytest

from prunekit_export.engine import EngineOptions, Profile
from prunekit_export.trtexec import trtexec_line, trtexec_text

# From the help of trtexec, releases 10.3 and 11.1; removed in 11: --fp16, --int8, --bf16, --best, --calib.
BOTH = {
    "--onnx",
    "--stronglyTyped",
    "--saveEngine",
    "--noTF32",
    "--minShapes",
    "--optShapes",
    "--maxShapes",
    "--skipInference",
    "--memPoolSize",
    "--builderOptimizationLevel",
    "--timingCacheFile",
    "--versionCompatible",
    "--hardwareCompatibilityLevel",
    "--refit",
}
FIXED = Profile((1, 3, 32, 48), (1, 3, 32, 48), (1, 3, 32, 48))
OPEN = Profile((1, 16, 24, 3), (1, 32, 48, 3), (4, 64, 96, 3))


@pytest.mark.parametrize("profile", [FIXED, OPEN], ids=["fixed", "open"])
@pytest.mark.parametrize("tf32", [False, True])
def test_only_options_of_both_generations_are_given(profile: Profile, tf32: bool) -> None:
    program, *words = shlex.split(trtexec_line("model.fp16.onnx", "images", profile, EngineOptions(tf32=tf32)))
    assert program == "trtexec"
    given = {word.partition("=")[0] for word in words}
    assert given <= BOTH
    assert ("--noTF32" in given) != tf32
    assert ("--minShapes" in given) == (profile is OPEN)


def test_open_sizes_are_named_with_their_input() -> None:
    line = trtexec_line("model.labels.onnx", "pictures", OPEN, EngineOptions())
    assert "--minShapes=pictures:1x16x24x3" in line
    assert "--optShapes=pictures:1x32x48x3" in line
    assert "--maxShapes=pictures:4x64x96x3" in line
    assert "--saveEngine=model.labels.plan" in line


def test_the_file_is_a_script_of_its_lines() -> None:
    head, *lines = trtexec_text(["trtexec a", "trtexec b"]).splitlines()
    assert head.startswith("# ")
    assert lines == ["trtexec a", "trtexec b"]


def test_the_options_of_a_build_stand_in_its_line() -> None:
    options = EngineOptions(
        workspace_mib=512,
        optimization_level=4,
        timing_cache=Path("my timings"),
        version_compatible=True,
        hardware_compatible=True,
        refit=True,
    )
    words = shlex.split(trtexec_line("model.onnx", "images", FIXED, options))
    assert {word.partition("=")[0] for word in words[1:]} <= BOTH
    assert "--memPoolSize=workspace:512" in words
    assert "--builderOptimizationLevel=4" in words
    assert "--timingCacheFile=my timings" in words
    assert {"--versionCompatible", "--hardwareCompatibilityLevel=ampere+", "--refit"} <= set(words)
