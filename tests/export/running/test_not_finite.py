import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from prunekit.data.shapes import ShapesDataset
from prunekit_export.running import ProfileConfig, evaluate_runner, profile_models
from prunekit_runtime.errors import RunnerError
from prunekit_runtime.measuring.bench import BenchConfig, bench
from prunekit_runtime.measuring.golden import GoldenCheck
from prunekit_runtime.preprocessing import Preprocessing
from prunekit_runtime.running.ort import OrtRunner

CLASSES, SIDE = 10, 32


@pytest.fixture(params=[np.nan, np.inf])
def broken(request, tmp_path):
    """A 1x1 convolution with one weight that is no number."""
    weights = np.random.default_rng(0).standard_normal((CLASSES, 3, 1, 1)).astype(np.float32)
    weights[3, 1] = request.param
    shape = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        [helper.make_node("Conv", ["images", "weights"], ["logits"])],
        "segmenter",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, CLASSES, SIDE, SIDE])],
        [numpy_helper.from_array(weights, "weights")],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return path


def test_an_onnx_file_of_nan_gets_neither_score_nor_latency(broken):
    dataset = ShapesDataset("val", 2, height=SIDE, width=SIDE, seed=0)
    assert len(dataset.classes) == CLASSES
    with OrtRunner(broken) as runner, pytest.raises(RunnerError, match="not finite"):
        evaluate_runner(runner, dataset, Preprocessing(height=SIDE, width=SIDE))
    with pytest.raises(RunnerError, match="not finite"):
        profile_models([broken], ProfileConfig(runs=1, warmup_runs=0))
    with pytest.raises(RunnerError, match="not finite"):
        bench(BenchConfig(broken, runs=1, warmup_runs=0))


def test_labels_of_nan_never_agree(broken):
    images = np.ones((1, 3, SIDE, SIDE), np.float32)
    golden = GoldenCheck(images=images, logits=np.zeros((1, CLASSES, SIDE, SIDE), np.float32))
    with OrtRunner(broken) as runner:
        assert golden.check(runner).label_agreement == 0
