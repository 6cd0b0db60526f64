"""The TensorRT runner: what it says without a GPU, and its calls against a stand-in made of numpy.

No engine ran on a GPU in these tests; the stand-in shows that shapes, addresses and memory are handled, nothing more.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prunekit_runtime.errors import RunnerError
from prunekit_runtime.running import cuda as cuda_runtime
from prunekit_runtime.running import trt as trt_module
from prunekit_runtime.running.trt import TrtRunner

API = json.loads((Path(__file__).parent / "tensorrt_api.json").read_text())
OWN_NAMES = {"log", "__init__"}
ROOTS = {
    "trt": None,
    "_engine": "ICudaEngine",
    "engine": "ICudaEngine",
    "_context": "IExecutionContext",
    "_runtime": "Runtime",
}


def names_used() -> set[tuple[str, str]]:
    """Collect (class, member) for each attribute that trt.py takes from a TensorRT object."""
    used: set[tuple[str, str]] = {("TensorIOMode", "INPUT"), ("TensorIOMode", "OUTPUT")}
    for node in ast.walk(ast.parse(Path(trt_module.__file__).read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, (ast.Name, ast.Attribute)):
            owner = node.value.id if isinstance(node.value, ast.Name) else node.value.attr
            if isinstance(node.value, ast.Attribute) and ast.unparse(node.value).startswith("trt."):
                used.add((ast.unparse(node.value).split(".")[1], ast.unparse(node).split(".")[2]))
            elif ROOTS.get(owner):
                used.add((str(ROOTS[owner]), node.attr))
    return {(owner, member) for owner, member in used if member not in OWN_NAMES}


@pytest.mark.parametrize("version", sorted(API))
def test_every_name_exists_in_every_version(version: str) -> None:
    used = names_used()
    assert len(used) >= 14
    missing = {(owner, member) for owner, member in used if member not in API[version].get(owner, ())}
    assert not missing


def test_missing_package_says_what_to_install(plan_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(RunnerError, match=r"needs tensorrt, which is not installed.*JetPack"):
        TrtRunner(plan_path)


def test_loader_error_is_shown(plan_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tensorrt.py").write_text("raise ImportError('libnvdla_compiler.so: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(RunnerError, match=r"installed but does not load: libnvdla_compiler\.so"):
        TrtRunner(plan_path)


def test_a_refused_plan_names_both_versions(plan_path: Path, host_engine: Any) -> None:
    host_engine.accepted = False
    with pytest.raises(RunnerError, match=r"10\.3\.0\.26; 10\.3\.0 here refuses it: the engine was made by another"):
        TrtRunner(plan_path)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 2), st.integers(8, 64), st.integers(8, 64)), min_size=1, max_size=4))
def test_runs_any_sequence_of_shapes(
    plan_path: Path, host_engine: Any, host_cuda: Any, weights_K3: Any, shapes: list[tuple[int, int, int]]
) -> None:
    with TrtRunner(plan_path) as runner:
        assert (runner.name, runner.inputs, runner.outputs) == ("tensorrt 10.3.0", ("images",), ("logits",))
        assert runner.input_shape == (None, 3, None, None)
        results: list[tuple[Any, Any]] = []
        for batch, height, width in shapes:
            images = np.random.default_rng(height).standard_normal((batch, 3, height, width)).astype(np.float32)
            results.append((runner.run(images), np.einsum("kc,nchw->nkhw", weights_K3, images)))
            assert runner.last_compute_ms == 0.25
            assert runner.last_parts_ms == {"copy_in": 0.125, "compute": 0.25, "copy_out": 0.5}
            assert len(host_cuda.held) == 4 + 5  # two buffers, each on both sides; a stream and four events
    assert not host_cuda.held
    for logits, expected in results:  # earlier results must outlive later runs and the runner itself
        np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)


def test_images_need_not_be_contiguous(plan_path: Path, host_engine: Any, weights_K3: Any) -> None:
    images = np.random.default_rng(0).standard_normal((1, 16, 24, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    with TrtRunner(plan_path) as runner:
        np.testing.assert_allclose(
            runner.run(images), np.einsum("kc,nchw->nkhw", weights_K3, images), rtol=1e-5, atol=1e-5
        )


def test_shape_outside_the_profile_is_refused(plan_path: Path, host_engine: Any) -> None:
    with (
        TrtRunner(plan_path) as runner,
        pytest.raises(RunnerError, match="1 x 3 x 8 x 8 to 2 x 3 x 64 x 64, got 1 x 3 x 4 x 4"),
    ):
        runner.run(np.zeros((1, 3, 4, 4), dtype=np.float32))


def test_failing_run_and_closed_runner_are_errors(plan_path: Path, host_engine: Any) -> None:
    images = np.zeros((1, 3, 8, 8), dtype=np.float32)
    with TrtRunner(plan_path) as runner:
        host_engine.works = False
        with pytest.raises(RunnerError, match="failed"):
            runner.run(images)
    runner.close()
    with pytest.raises(RunnerError, match="closed"):
        runner.run(images)


def test_engine_with_half_precision_ends_is_refused(plan_path: Path, host_engine: Any) -> None:
    host_engine.dtype = "HALF"
    with pytest.raises(RunnerError, match=r"HALF .*, but float32 with four axes is needed"):
        TrtRunner(plan_path)


def test_cuda_says_what_is_missing() -> None:
    if _has_gpu():
        pytest.skip("a GPU is here, so nothing is missing")
    with pytest.raises(RunnerError, match=r"No usable NVIDIA GPU|CUDA runtime library is missing"):
        cuda_runtime.open_cuda()


def test_cuda_signatures_match_the_library() -> None:
    try:
        cuda = cuda_runtime.Cuda(cuda_runtime._load_library())
    except RunnerError as error:
        pytest.skip(str(error))
    major = int(cuda.runtime_version().split(".")[0])
    assert 11 <= major < 20


def test_real_plan_without_a_gpu_is_one_clear_error(rtx_plan: Path) -> None:
    if _has_gpu():
        pytest.skip("a GPU is here; the plan may run")
    with pytest.raises(RunnerError, match="No usable NVIDIA GPU"):
        TrtRunner(rtx_plan)


@pytest.mark.gpu
def test_real_plan_on_a_gpu(rtx_plan: Path, weights_K3: Any) -> None:
    if not _has_gpu():
        pytest.skip("needs an NVIDIA GPU")
    images = np.random.default_rng(0).standard_normal((1, 3, 16, 24)).astype(np.float32)
    with TrtRunner(rtx_plan) as runner:
        logits = runner.run(images)
        assert runner.last_compute_ms > 0
    # TF32 keeps 10 bits of mantissa
    np.testing.assert_allclose(logits, np.einsum("kc,nchw->nkhw", weights_K3, images), rtol=1e-2, atol=1e-2)


def _has_gpu() -> bool:
    try:
        cuda_runtime.open_cuda()
    except RunnerError:
        return False
    return True
