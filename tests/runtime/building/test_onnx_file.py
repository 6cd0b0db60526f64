"""The CPU backend: nothing is built, the file is opened by the real ONNX Runtime, and a key says with what."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prunekit_runtime.building import BuildOptions, build_engine, find_built
from prunekit_runtime.errors import BuildError, BuildUsageError

pytest.importorskip("onnxruntime")


@pytest.fixture
def on_cpu(bundle: Any, write_onnx: Any) -> Any:
    """Put a real file in the place of the fp32 model."""
    bundle.models[0].path(bundle.folder).write_bytes(write_onnx(height=16, width=24).read_bytes())
    return replace(bundle, models=bundle.models[:1])


def test_the_file_is_opened_once_and_a_key_says_with_what(on_cpu: Any) -> None:
    entry = on_cpu.models[0]
    said: list[str] = []
    built = build_engine(on_cpu, entry, BuildOptions(), backend="ort", on_step=said.append)
    assert built.path == find_built(on_cpu, entry, "ort") == entry.path(on_cpu.folder)
    key = json.loads((on_cpu.built_dir / "labels.fp32.ort.json").read_text())
    assert key["bound_to"]["package"] == "onnxruntime"
    assert key["engine_sha256"] is None
    assert key["made"]["inputs"] == [{"name": "images", "type": "tensor(float)", "shape": ["batch", "3", "16", "24"]}]
    assert "nothing has to be built" in said[0]


def test_a_file_that_does_not_open_is_one_sentence_and_leaves_nothing(on_cpu: Any) -> None:
    on_cpu.models[0].path(on_cpu.folder).write_bytes(b"no onnx")
    with pytest.raises(BuildError, match="cannot open"):
        build_engine(on_cpu, on_cpu.models[0], BuildOptions(), backend="ort")
    assert not list(on_cpu.built_dir.glob("*.json")) if on_cpu.built_dir.exists() else True


def test_options_of_tensorrt_are_wrong_use(on_cpu: Any) -> None:
    with pytest.raises(BuildUsageError, match="--tf32 is for TensorRT"):
        build_engine(on_cpu, on_cpu.models[0], BuildOptions(tf32=True), backend="ort")


def test_without_tensorrt_the_error_names_the_other_backend_and_nothing_falls_back(
    on_cpu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from prunekit_runtime.building import package

    monkeypatch.setattr(package.importlib.util, "find_spec", lambda _: None)
    for do in (
        lambda: build_engine(on_cpu, on_cpu.models[0], BuildOptions()),
        lambda: find_built(on_cpu, on_cpu.models[0], "tensorrt"),
    ):
        with pytest.raises(BuildUsageError, match=r"TensorRT is not installed.*JetPack.*--backend ort"):
            do()
    assert not on_cpu.built_dir.exists()


def test_a_tensorrt_that_does_not_load_shows_the_loaders_words(
    on_cpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(BuildError, match=r"installed but does not load: libnvdla_compiler\.so"):
        build_engine(on_cpu, on_cpu.models[0], BuildOptions())


def test_without_a_gpu_the_error_says_why_and_names_the_other_backend(on_cpu: Any, world: Any, other_gpu: Any) -> None:
    other_gpu(name=None, missing="CUDA counts no GPU")
    with pytest.raises(BuildUsageError, match=r"No usable NVIDIA GPU: CUDA counts no GPU.*--backend ort"):
        build_engine(on_cpu, on_cpu.models[0], BuildOptions())
