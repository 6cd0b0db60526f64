"""Pictures in, labels out: a graph with all inside labels as preprocessing, network and postprocessing do apart."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from prunekit_export.errors import ExportError
from prunekit_export.graph import PicturePass, export_onnx, restored_logits, save_onnx
from prunekit_runtime.preprocessing import Preprocessing, resize_bilinear
from prunekit_runtime.running.ort import OrtRunner
from prunekit_runtime.running.picturing import PictureModel

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


class Small(nn.Module):
    """Two convolutions, stride 4, and back to the image's size."""

    def __init__(self, classes: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4, padding=1), nn.ReLU(), nn.Conv2d(8, classes, 3, padding=1)
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(self.layers(images), scale_factor=4.0, mode="bilinear", align_corners=False)


contracts = st.builds(
    Preprocessing,
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    channel_order=st.sampled_from(("rgb", "bgr")),
    scale=st.sampled_from((1 / 255, 1.0)),
    mean=st.tuples(*[st.floats(0, 1)] * 3),
    std=st.tuples(*[st.floats(0.1, 1)] * 3),
    pad_multiple=st.sampled_from((4, 8, 32)),
)
sides = st.integers(5, 70)


def network(path: Path, classes: int, seed: int, height: int, width: int) -> None:
    """Write a network as `Small` without torch's exporter, which takes seconds."""
    make, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    generator = np.random.default_rng(seed)
    weights = {
        "first": generator.normal(0, 0.3, (8, 3, 3, 3)).astype(np.float32),
        "second": generator.normal(0, 0.3, (classes, 8, 3, 3)).astype(np.float32),
        "scales": np.array([1, 1, 4, 4], np.float32),
    }
    nodes = [
        make("Conv", ["images", "first"], ["a"], strides=[4, 4], pads=[1, 1, 1, 1]),
        make("Relu", ["a"], ["b"]),
        make("Conv", ["b", "second"], ["c"], pads=[1, 1, 1, 1]),
        make("Resize", ["c", "", "scales"], ["logits"], mode="linear"),
    ]
    ends = [[value("images", 1, [1, 3, height, width])], [value("logits", 1, [1, classes, height, width])]]
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "network", *ends, constants)
    save_onnx(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10), path)


def written(folder: Path, contract: Preprocessing, classes: int, seed: int, **options: object) -> tuple[Path, Path]:
    """Write the network, and the graph from pictures to labels."""
    height, width = contract.network_size(contract.height, contract.width)
    path, labels = folder / "model.onnx", folder / "labels.onnx"
    network(path, classes, seed, height, width)
    save_onnx(PicturePass(contract, **options)(onnx.load_model(path)).model, labels)  # type: ignore[arg-type]
    return path, labels


def decided(contract: Preprocessing, runner: OrtRunner, picture_HW3: np.ndarray) -> np.ndarray:
    """Return the pixels whose best class leads by more than float32 coordinates can move."""
    logits = contract.restore_logits(runner.run(contract.prepare(picture_HW3)), *picture_HW3.shape[:2])
    second, first = np.sort(logits, axis=0)[-2:]
    return first - second > 1e-4 * np.abs(logits).max()


@settings(max_examples=25)
@given(
    contract=contracts, height=sides, width=sides, classes=st.integers(2, 9), seed=st.integers(0, 99), data=st.data()
)
def test_the_graph_labels_as_the_contract_and_the_network_do(
    tmp_path_factory, contract, height, width, classes, seed, data
):
    is_open = data.draw(st.booleans())
    path, labels = written(
        tmp_path_factory.mktemp("pictures"), contract, classes, seed, picture=None if is_open else (height, width)
    )
    generator = np.random.default_rng(seed)
    with OrtRunner(path) as apart, OrtRunner(labels, graph="labels") as inside:
        for size in [(height, width), (contract.height, contract.width)] if is_open else [(height, width)]:
            coarse = generator.uniform(0, 255, (3, 4, 4)).astype(np.float32)
            picture = resize_bilinear(coarse, *size).astype(np.uint8).transpose(1, 2, 0)
            models = PictureModel(apart, contract), PictureModel(inside, contract)
            expected, got = (model.labels(model.compute(model.prepare(picture)), *size) for model in models)
            clear = decided(contract, apart, picture)
            assert (expected == got)[clear].all()
            assert (expected == got).mean() > 0.9


def test_a_file_of_open_size_labels_pictures_of_any_size(tmp_path):
    contract = Preprocessing(0, 0, pad_multiple=4)
    path, labels = tmp_path / "model.onnx", tmp_path / "labels.onnx"
    export_onnx(Small(5, 0), path, height=32, width=32, dynamic=True, stride=4)
    save_onnx(PicturePass(contract)(onnx.load_model(path)).model, labels)
    with OrtRunner(path) as apart, OrtRunner(labels, graph="labels") as inside:
        for size in ((33, 47), (32, 32), (61, 18)):
            picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
            models = PictureModel(apart, contract), PictureModel(inside, contract)
            expected, got = (model.labels(model.compute(model.prepare(picture)), *size) for model in models)
            clear = decided(contract, apart, picture)
            assert (expected == got)[clear].all()


def test_a_file_of_open_size_pads_pictures_as_the_contract_says_and_not_only_as_the_network_does(tmp_path):
    contract = Preprocessing(0, 0, pad_multiple=16)
    path, labels = tmp_path / "model.onnx", tmp_path / "labels.onnx"
    export_onnx(Small(5, 0), path, height=32, width=32, dynamic=True, stride=4)
    model = PicturePass(contract, stride=4)(onnx.load_model(path)).model
    logits = onnx.helper.make_tensor_value_info(restored_logits(model), 1, ["n", "k", "y", "x"])
    model.graph.output.append(logits)
    save_onnx(model, labels)
    with OrtRunner(path) as apart, OrtRunner(labels, graph="labels") as inside:
        for size in ((33, 47), (32, 32), (61, 18)):
            picture = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
            expected = contract.restore_logits(apart.run(contract.prepare(picture)), *size)
            _, got = inside.run_all(picture[None])
            assert np.abs(got[0] - expected).max() < 1e-5


def test_names_that_the_network_has_taken_are_not_taken_again(tmp_path):
    contract = Preprocessing(16, 24, pad_multiple=16)
    path, _ = written(tmp_path, contract, 4, 3, picture=(20, 30))
    network = onnx.load_model(path)
    for node in network.graph.node:
        node.input[:] = ["picture_scaled" if name == "a" else name for name in node.input]
        node.output[:] = ["picture_scaled" if name == "a" else name for name in node.output]
    save_onnx(PicturePass(contract, (20, 30))(network).model, tmp_path / "labels.onnx")
    for node in network.graph.node:
        node.input[:] = ["labels" if name == "b" else name for name in node.input]
        node.output[:] = ["labels" if name == "b" else name for name in node.output]
    with pytest.raises(ExportError, match="tensors called labels"):
        PicturePass(contract, (20, 30))(network)


def test_among_equal_classes_the_lowest_wins(tmp_path):
    class Flat(Small):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * 0

    contract = Preprocessing(16, 16)
    export_onnx(Flat(4, 0), tmp_path / "model.onnx", height=16, width=16, dynamic=False)
    model = PicturePass(contract, (20, 24))(onnx.load_model(tmp_path / "model.onnx")).model
    save_onnx(model, tmp_path / "labels.onnx")
    with OrtRunner(tmp_path / "labels.onnx", graph="labels") as runner:
        assert not runner.run(np.full((1, 20, 24, 3), 99, np.uint8)).any()


def test_the_share_of_the_best_class_comes_as_bytes(tmp_path):
    contract = Preprocessing(16, 24)
    path, labels = written(tmp_path, contract, 4, 3, picture=(16, 24), confidence=True)
    picture = np.random.default_rng(1).integers(0, 255, (16, 24, 3), dtype=np.uint8)
    with OrtRunner(path) as apart, OrtRunner(labels, graph="labels") as inside:
        logits = apart.run(contract.prepare(picture))[0].astype(np.float64)
        _, shares = inside.run_all(picture[None])
    weights = np.exp(logits - logits.max(0))
    assert np.abs(shares[0] - 255 * weights.max(0) / weights.sum(0)).max() <= 0.51


def test_pictures_of_another_size_are_refused_with_the_remedy(tmp_path):
    contract = Preprocessing(16, 24)
    _, labels = written(tmp_path, contract, 4, 3, picture=(20, 30))
    with OrtRunner(labels, graph="labels") as runner, pytest.raises(Exception, match="--picture-size"):
        PictureModel(runner, contract).prepare(np.zeros((16, 24, 3), np.uint8))


def test_a_contract_of_another_size_is_refused(tmp_path):
    export_onnx(Small(4, 0), tmp_path / "model.onnx", height=16, width=16, dynamic=False)
    with pytest.raises(ExportError, match="takes images of 16 x 16"):
        PicturePass(Preprocessing(32, 32))(onnx.load_model(tmp_path / "model.onnx"))


def test_the_graph_is_one_that_tensorrt_takes(tmp_path):
    trt = pytest.importorskip("tensorrt_rtx")
    for number, (contract, options) in enumerate(
        (
            (Preprocessing(16, 24), {"picture": (16, 24)}),
            (Preprocessing(20, 30, pad_multiple=8, channel_order="bgr"), {"picture": (54, 96), "confidence": True}),
            (Preprocessing(16, 24), {"picture": None}),
        )
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        _, labels = written(folder, contract, 4, 0, **options)
        builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
        network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
        parser = trt.OnnxParser(network, builder.logger)
        assert parser.parse(labels.read_bytes()), [parser.get_error(k).desc() for k in range(parser.num_errors)]
        assert network.get_input(0).dtype == network.get_output(0).dtype == trt.DataType.UINT8
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        if options["picture"] is None:
            profile.set_shape("pictures", (1, 16, 24, 3), (1, 54, 96, 3), (1, 108, 192, 3))
            config.add_optimization_profile(profile)
        assert builder.build_serialized_network(network, config) is not None
