"""Options of a build: said to the builder, read back, and refused where it would go on without them."""

import importlib.util
import json
import types
from pathlib import Path
from typing import Any

import pytest
from torch import nn

import prunekit
from prunekit_export.engine import EngineOptions, Profile, build_engine
from prunekit_export.engine.build import sidecar_path
from prunekit_export.engine.options import apply_, timings
from prunekit_export.errors import EngineUsageError, ExportUsageError
from prunekit_export.graph import ExportReport

needs_rtx = pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed")
STATIC = Profile(*[(2, 3, 33, 47)] * 3)
WHOLE = {"workspace_mib": 64, "optimization_level": 1, "version_compatible": True, "hardware_compatible": True}
CONTRACT = prunekit.Preprocessing(32, 48)


class Config:
    """A builder configuration as TensorRT's, which keeps what it is told but for the names in `deaf`."""

    def __init__(self, deaf: str = "", known: bytes = b"") -> None:
        self._deaf, self._known = deaf, known
        self.pools: dict[str, int] = {}
        self.flags: set[str] = set()
        self.level, self.hardware, self.cache = 3, "NONE", b""

    def set_memory_pool_limit(self, pool: str, size: int) -> None:
        if self._deaf != "workspace":
            self.pools[pool] = size

    def get_memory_pool_limit(self, pool: str) -> int:
        return self.pools.get(pool, 0)

    @property
    def builder_optimization_level(self) -> int:
        return self.level

    @builder_optimization_level.setter
    def builder_optimization_level(self, level: int) -> None:
        self.level = self.level if self._deaf == "level" else level

    @property
    def hardware_compatibility_level(self) -> str:
        return self.hardware

    @hardware_compatibility_level.setter
    def hardware_compatibility_level(self, level: str) -> None:
        self.hardware = self.hardware if self._deaf == "hardware" else level

    def set_flag(self, flag: str) -> None:
        self.flags |= set() if self._deaf == flag else {flag}

    def get_flag(self, flag: str) -> bool:
        return flag in self.flags

    def create_timing_cache(self, content: bytes) -> Any:
        return types.SimpleNamespace(content=content, serialize=lambda: content + b" and more")

    def set_timing_cache(self, cache: Any, _: bool) -> bool:
        self.cache = cache
        return cache.content in (b"", self._known)

    def get_timing_cache(self) -> Any:
        return self.cache


def trt(name: str = "tensorrt") -> Any:
    return types.SimpleNamespace(
        __name__=name,
        __version__="10.3.0",
        MemoryPoolType=types.SimpleNamespace(WORKSPACE="workspace"),
        BuilderFlag=types.SimpleNamespace(VERSION_COMPATIBLE="version", REFIT="refit"),
        HardwareCompatibilityLevel=types.SimpleNamespace(AMPERE_PLUS="AMPERE_PLUS"),
    )


def test_everything_is_said_to_the_builder() -> None:
    config = Config()
    apply_(trt(), config, EngineOptions(refit=True, **WHOLE))  # pyright: ignore[reportArgumentType]
    assert config.pools == {"workspace": 64 << 20}
    assert (config.level, config.hardware, config.flags) == (1, "AMPERE_PLUS", {"version", "refit"})


def test_nothing_is_said_where_nothing_was_asked() -> None:
    config = Config()
    apply_(trt(), config, EngineOptions())
    assert (config.pools, config.flags, config.level, config.hardware) == ({}, set(), 3, "NONE")


@pytest.mark.parametrize(
    ("deaf", "options", "word"),
    [
        ("workspace", {"workspace_mib": 8}, "--workspace"),
        ("level", {"optimization_level": 0}, "--optimization-level"),
        ("hardware", {"hardware_compatible": True}, "--hardware-compatible"),
        ("version", {"version_compatible": True}, "--version-compatible"),
        ("refit", {"refit": True}, "--refit"),
    ],
)
def test_a_builder_that_goes_on_without_an_option_is_refused(deaf: str, options: dict[str, Any], word: str) -> None:
    with pytest.raises(EngineUsageError, match=f"tensorrt 10.3.0 does not have {word}"):
        apply_(trt(), Config(deaf), EngineOptions(**options))


def test_timings_are_read_and_given_back(tmp_path: Path) -> None:
    file, config = tmp_path / "timings", Config(known=b"old")
    apply_(trt(), config, EngineOptions(timing_cache=file))
    assert timings(config) == b" and more"
    file.write_bytes(b"old")
    apply_(trt(), config, EngineOptions(timing_cache=file))
    assert timings(config) == b"old and more"


def test_timings_of_another_gpu_are_refused_and_kept(tmp_path: Path) -> None:
    file = tmp_path / "timings"
    file.write_bytes(b"another")
    with pytest.raises(EngineUsageError, match="does not take the timing cache"):
        apply_(trt(), Config(known=b"old"), EngineOptions(timing_cache=file))
    assert file.read_bytes() == b"another"
    with pytest.raises(EngineUsageError, match="no file of up to"):
        apply_(trt(), Config(), EngineOptions(timing_cache=tmp_path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"optimization_level": 6}, "0 .* to 5; got 6"),
        ({"optimization_level": -1}, "got -1"),
        ({"workspace_mib": 0}, "MiB; got 0"),
        ({"package": "tensorflow"}, "got 'tensorflow'"),
        ({"targets": ()}, "names no GPU"),
    ],
)
def test_values_out_of_range_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(EngineUsageError, match=said):
        EngineOptions(**options)


@needs_rtx
def test_rtx_builds_with_what_it_has_and_the_sidecar_says_so(static_file: ExportReport, tmp_path: Path) -> None:
    plan = tmp_path / "x.plan"
    options = EngineOptions(package="tensorrt_rtx", targets=("SM86",), workspace_mib=64, optimization_level=1)
    report = build_engine(static_file.path, plan, profile=STATIC, options=options)
    told = json.loads(sidecar_path(plan).read_text())["options"]
    assert (told["workspace_mib"], told["optimization_level"], told["refit"]) == (64, 1, False)
    assert report.options == told


@needs_rtx
@pytest.mark.parametrize("option", ["hardware_compatible", "timing_cache"])
def test_rtx_does_not_build_on_without_an_option(static_file: ExportReport, tmp_path: Path, option: str) -> None:
    value = tmp_path / "timings" if option == "timing_cache" else True
    options = EngineOptions(package="tensorrt_rtx", targets=("SM86",), **{option: value})  # pyright: ignore[reportArgumentType]
    with pytest.raises(EngineUsageError, match=r"tensorrt_rtx .* does not have .*[Ll]eave it out"):
        build_engine(static_file.path, tmp_path / "x.plan", profile=STATIC, options=options)
    assert not list(tmp_path.iterdir())


def test_an_option_without_an_engine_is_refused(tiny_net: nn.Module, tmp_path: Path) -> None:
    engine = EngineOptions(workspace_mib=8, refit=True)
    with pytest.raises(ExportUsageError, match="workspace_mib, refit is about an engine"):
        prunekit.export(tiny_net, tmp_path / "out", preprocessing=CONTRACT, engine=engine)


SIZES = Profile((1, 3, 16, 24), (1, 3, 32, 48), (3, 3, 40, 56))


def test_sizes_stand_in_the_line_for_trtexec(tiny_net: nn.Module, tmp_path: Path) -> None:
    prunekit.export(tiny_net, tmp_path / "out", preprocessing=CONTRACT, dynamic=True, profile=SIZES)
    text = (tmp_path / "out" / "trtexec.txt").read_text()
    assert "--minShapes=images:1x3x16x24 --optShapes=images:1x3x32x48 --maxShapes=images:3x3x40x56" in text


@needs_rtx
def test_an_engine_is_built_for_the_sizes(tiny_net: nn.Module, tmp_path: Path) -> None:
    options = {"dynamic": True, "profile": SIZES, "trt": True, "engine": EngineOptions(targets=("SM86",))}
    summary = prunekit.export(tiny_net, tmp_path / "out", preprocessing=CONTRACT, **options)
    assert summary.engine is not None
    assert (summary.engine.profile, summary.engine.targets) == (SIZES, ("SM86",))


@pytest.mark.parametrize(
    ("options", "sizes", "said"),
    [
        ({}, SIZES, "The file has one size"),
        ({"end2end": True}, Profile(*[(1, 32, 48, 3)] * 3), "The file has one size"),
        ({"dynamic": True}, Profile((1, 4, 16, 24), (1, 4, 32, 48), (3, 4, 40, 56)), "Axis 1 .* 3 three times"),
        ({"dynamic": True}, Profile((1, 3, 33, 24), (1, 3, 32, 48), (3, 3, 40, 56)), "Axis 2 .* 33, 32, 40"),
        ({"dynamic": True, "end2end": True}, SIZES, r"Axis 3 .*pictures \(N, H, W, 3\)"),
    ],
)
def test_sizes_that_the_file_does_not_take_are_refused_before_the_work(
    tiny_net: nn.Module, tmp_path: Path, options: dict[str, Any], sizes: Profile, said: str
) -> None:
    with pytest.raises(ExportUsageError, match=said):
        prunekit.export(tiny_net, tmp_path / "out", preprocessing=CONTRACT, profile=sizes, **options)
    assert not (tmp_path / "out").exists()
