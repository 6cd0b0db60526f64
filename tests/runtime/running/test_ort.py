"""The ONNX Runtime runner: the provider that was asked for or an error, and logits that are right."""

import importlib.metadata
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prunekit_runtime.errors import RunnerError
from prunekit_runtime.running.opening import open_runner
from prunekit_runtime.running.ort import PROVIDERS, OrtRunner, is_quantised

ort: Any = pytest.importorskip("onnxruntime")
onnx: Any = pytest.importorskip("onnx")
WriteOnnx = Callable[..., Path]


@pytest.mark.parametrize("optimise", [True, False])
@pytest.mark.parametrize("shape", [(1, 3, 8, 8), (2, 3, 5, 7)])
def test_logits_are_right(write_onnx: WriteOnnx, weights_K3: Any, shape: tuple[int, ...], optimise: bool) -> None:
    images = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    with OrtRunner(write_onnx(), threads=1, optimise=optimise) as runner:
        logits = runner.run(images)
        assert runner.name == f"onnxruntime CPUExecutionProvider {ort.__version__}"
        assert (runner.inputs, runner.outputs, runner.input_shape) == (("images",), ("logits",), (None, 3, None, None))
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, np.einsum("kc,nchw->nkhw", weights_K3, images), rtol=1e-5, atol=1e-5)


def test_images_need_not_be_contiguous(write_onnx: WriteOnnx, weights_K3: Any) -> None:
    images = np.random.default_rng(0).standard_normal((1, 8, 9, 3)).astype(np.float32).transpose(0, 3, 1, 2)
    with OrtRunner(write_onnx()) as runner:
        np.testing.assert_allclose(
            runner.run(images), np.einsum("kc,nchw->nkhw", weights_K3, images), rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_a_provider_runs_or_is_refused(write_onnx: WriteOnnx, provider: Any) -> None:
    ran = refused = ""
    try:
        with OrtRunner(write_onnx(), provider) as runner:
            ran = runner.name
    except RunnerError as error:
        refused = str(error)
    assert PROVIDERS[provider] in (ran or refused)
    assert ran or provider != "cpu"


class LyingRuntime(types.SimpleNamespace):
    """Claims to have CUDA, and hands out a CPU session all the same, as onnxruntime-gpu without CUDA does."""

    def __init__(self, ran: list[str]) -> None:
        self.entries: dict[str, str] = {}
        session = types.SimpleNamespace(get_providers=lambda: ran, disable_fallback=lambda: None)
        options = types.SimpleNamespace(add_session_config_entry=self.entries.__setitem__)
        super().__init__(
            __version__="1.31.1",
            SessionOptions=lambda: options,
            GraphOptimizationLevel=ort.GraphOptimizationLevel,
            get_available_providers=lambda: list(PROVIDERS.values()),
            InferenceSession=self._open,
        )
        self.asked: list[list[str]] = []
        self.session = session

    def _open(self, path: str, *, sess_options: Any, providers: list[str]) -> Any:  # noqa: ARG002  the real signature
        self.asked.append(providers)
        return self.session


@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_a_silent_cpu_session_is_refused(write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch, provider: Any) -> None:
    lying = LyingRuntime(["CPUExecutionProvider"])
    monkeypatch.setitem(sys.modules, "onnxruntime", lying)  # pyright: ignore[reportArgumentType]  a stand-in
    with pytest.raises(RunnerError, match=rf"{PROVIDERS[provider]} was asked for, but .*CPUExecutionProvider"):
        OrtRunner(write_onnx(), provider)
    assert lying.asked == [[PROVIDERS[provider]]]
    assert lying.entries == {"session.disable_cpu_ep_fallback": "1"}


def test_both_distributions_are_refused(write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "1.31.1")
    with pytest.raises(RunnerError, match="onnxruntime and onnxruntime-gpu are both installed"):
        OrtRunner(write_onnx())


def test_missing_package_says_what_to_install(write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RunnerError, match=r"not installed.*prunekit\[ort\]"):
        OrtRunner(write_onnx())


def test_the_shell_of_an_uninstalled_package_is_refused(write_onnx: WriteOnnx, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", types.ModuleType("onnxruntime"))
    with pytest.raises(RunnerError, match="damaged"):
        OrtRunner(write_onnx())


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((1, 3, 8, 8), dtype=np.float64),
        np.zeros((1, 3, 8, 9), dtype=np.float32),
        np.zeros((1, 4, 8, 8), dtype=np.float32),
        np.zeros((3, 8, 8), dtype=np.float32),
        np.zeros((0, 3, 8, 8), dtype=np.float32),
    ],
    ids=lambda images: f"{images.dtype}{images.shape}",
)
def test_images_that_do_not_fit_are_refused(write_onnx: WriteOnnx, images: Any) -> None:
    with OrtRunner(write_onnx(height=8, width=8)) as runner, pytest.raises(RunnerError, match=r"\? x 3 x 8 x 8, got"):
        runner.run(images)


def test_a_closed_runner_says_so(write_onnx: WriteOnnx) -> None:
    runner = OrtRunner(write_onnx())
    runner.close()
    runner.close()
    with pytest.raises(RunnerError, match="closed"):
        runner.run(np.zeros((1, 3, 8, 8), dtype=np.float32))


def test_other_graphs_are_refused(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    with pytest.raises(RunnerError, match="float32 with four axes"):
        OrtRunner(write_onnx("half.onnx", half=True))
    with pytest.raises(RunnerError, match="2 outputs"):
        OrtRunner(write_onnx("two.onnx", more=1))
    with pytest.raises(RunnerError, match="does not exist"):
        OrtRunner(tmp_path / "absent.onnx")
    (tmp_path / "garbage.onnx").write_bytes(b"garbage")
    with pytest.raises(RunnerError, match="cannot load"):
        OrtRunner(tmp_path / "garbage.onnx")
    with pytest.raises(RunnerError, match="threads"):
        OrtRunner(write_onnx(), threads=-1)
    with pytest.raises(RunnerError, match="unknown"):
        OrtRunner(write_onnx(), "gpu")  # pyright: ignore[reportArgumentType]  what a careless caller writes


def test_a_file_opens_with_its_runner(write_onnx: WriteOnnx, plan_path: Path, host_engine: Any, tmp_path: Path) -> None:
    with open_runner(write_onnx(), provider="cpu", threads=1) as runner:
        assert runner.name.startswith("onnxruntime")
    renamed = plan_path.rename(tmp_path / "without_suffix")
    with open_runner(renamed) as runner:
        assert runner.name.startswith("tensorrt")
    with pytest.raises(RunnerError, match="Leave out the provider"):
        open_runner(renamed, provider="cuda")
    with pytest.raises(RunnerError, match="does not exist"):
        open_runner(tmp_path / "absent.onnx")
    (tmp_path / "model.pt").write_bytes(b"PK")
    with pytest.raises(RunnerError, match="neither"):
        open_runner(tmp_path / "model.pt")
    (tmp_path / "damaged.plan").write_bytes(b"x" * 100)
    with pytest.raises(RunnerError, match="no TensorRT engine"):
        open_runner(tmp_path / "damaged.plan")


@pytest.mark.parametrize("size", [(100_000, 100_000), (30_000, 30_000), (2**31 - 1, 1)])
def test_declared_sizes_that_no_machine_should_hold_are_refused(write_onnx: WriteOnnx, size: tuple[int, int]) -> None:
    height, width = size
    with pytest.raises(RunnerError, match=r"images of the shape . x 3 x .* GiB, at most 8 GiB"):
        OrtRunner(write_onnx(height=height, width=width))


def test_names_in_a_file_cannot_command_a_terminal(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    helper = pytest.importorskip("onnx").helper
    value = helper.make_tensor_value_info("images", 1, [1, 3, 4, 4])
    output = helper.make_tensor_value_info("logits", 1, [1, 3, 4, 4])
    node = helper.make_node("Strange\x1b[2J\x07", ["images"], ["logits"], name="clear\x1b[2J")
    model = helper.make_model(helper.make_graph([node], "g", [value], [output]))
    path.write_bytes(model.SerializeToString())
    with pytest.raises(RunnerError, match="cannot load") as caught:
        OrtRunner(path)
    assert str(caught.value).isprintable()
    assert "x1b[2J" in str(caught.value)


def test_a_quantised_file_runs_as_written(tmp_path: Path) -> None:
    """The optimiser would put integer kernels in the place of the nodes, which give other numbers."""
    random = np.random.default_rng(0)
    weights = {
        "scale": np.float32(0.02),
        "zero": np.int8(0),
        "w": random.integers(-127, 128, (4, 3, 3, 3)).astype(np.int8),
        "w_scale": np.float32(0.01),
    }
    nodes = [
        onnx.helper.make_node("QuantizeLinear", ["images", "scale", "zero"], ["q"]),
        onnx.helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        onnx.helper.make_node("DequantizeLinear", ["w", "w_scale", "zero"], ["dw"]),
        onnx.helper.make_node("Conv", ["d", "dw"], ["logits"], pads=[1] * 4),
    ]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, channels, 16, 16])
        for name, channels in (("images", 3), ("logits", 4))
    ]
    tensors = [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], tensors)
    path = tmp_path / "quantised.onnx"
    onnx.save_model(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=9), path)
    images = random.standard_normal((1, 3, 16, 16)).astype(np.float32)
    assert is_quantised(path)
    with OrtRunner(path) as runner, OrtRunner(path, optimise=False) as written, OrtRunner(path, optimise=True) as fused:
        np.testing.assert_array_equal(runner.run(images), written.run(images))
        assert runner.name.endswith(", as written")
        assert not fused.name.endswith(", as written")


def test_a_file_without_integers_is_not_taken_for_a_quantised_one(write_onnx: WriteOnnx, tmp_path: Path) -> None:
    assert not is_quantised(write_onnx())
    empty = tmp_path / "empty.onnx"
    empty.touch()
    assert not is_quantised(empty)
