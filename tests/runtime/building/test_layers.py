"""What the inspector writes, read: the words are those of TensorRT 10 and 11, the engines are made up."""

import json
from typing import Any

import pytest

from prunekit_runtime.building.layers import (
    NetworkLayer,
    dtype_name,
    layer_report,
    onnx_nodes,
    refuse_other_precision,
)
from prunekit_runtime.errors import BuildError


def conv(name: str, dtype: str = "HALF", kind: str = "CONVOLUTION") -> NetworkLayer:
    return NetworkLayer(name, f"[ONNX Layer: {name}]", kind, dtype)


def engine(name: str, *nodes: str, kernel: str = "", weights: str | None = None, **ends: str) -> dict[str, Any]:
    layer: dict[str, Any] = {
        "Name": name,
        "LayerType": "gemm",
        "Metadata": "\x1f".join(f"[ONNX Layer: {node}]" for node in nodes),
        "TacticName": kernel,
    }
    if weights is not None:
        layer["Weights"] = {"Type": weights, "Count": 9}
    for end, text in ends.items():
        layer[end.capitalize()] = [{"Name": "t", "Format/Datatype": text}]
    return layer


@pytest.mark.parametrize(
    ("metadata", "nodes"),
    [
        ("[ONNX Layer: a]\x1f[ONNX Layer: b]", ("a", "b")),
        ("[ONNX Layer: a]\x1e[ONNX Layer: b]", ("a", "b")),
        ("[ONNX Layer: a][ONNX Layer: b]", ("a", "b")),
        ("[ONNX Layer: /layer[0]/Conv]", ("/layer[0]/Conv",)),
        ("[ONNX Layer: a]\x1f[ONNX Layer: a]", ("a",)),
        ("", ()),
        ("something else", ()),
    ],
)
def test_node_names_are_taken_from_the_metadata(metadata: str, nodes: tuple[str, ...]) -> None:
    assert onnx_nodes(metadata) == nodes


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Row major linear FP32", "fp32"),
        ("Float", "fp32"),
        ("Channel major FP16 format where channel % 8 == 0", "fp16"),
        ("Half", "fp16"),
        ("BFloat16", "bf16"),
        ("BF16", "bf16"),
        ("Thirty-two wide channel vectorized row major Int8 format.", "int8"),
        ("UInt8", "uint8"),
        ("FP8", "fp8"),
        ("Int64", "int64"),
        ("N/A due to dynamic shapes", "unknown"),
    ],
)
def test_types_are_read_in_the_words_of_tensorrt(text: str, name: str) -> None:
    assert dtype_name(text) == name


@pytest.mark.parametrize(
    ("layer", "precision"),
    [
        (engine("c", "conv", weights="Half"), "fp16"),
        (engine("c", "conv", weights="Float"), "fp32"),
        (
            engine("c", "conv", weights="Int8", kernel="sm80_xmma_fprop_implicit_gemm_interleaved_i8f32_i8i32_f32_"),
            "int8",
        ),
        (engine("c", "conv", kernel="sm80_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize32x32x64"), "fp16"),
        (engine("c", "conv", kernel="sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n", weights="Float"), "tf32"),
        (engine("c", "conv", kernel="sm80_xmma_gemm_f32f32_f32f32_f32_nn"), "fp32"),
        (engine("c", "conv", kernel="opaque", inputs="Half", outputs="Float"), "fp16"),
        (engine("c", "conv", inputs="N/A due to dynamic shapes"), "unknown"),
    ],
)
def test_a_product_computes_in_the_type_of_its_weights_else_of_its_kernel_else_of_its_inputs(
    layer: dict[str, Any], precision: str
) -> None:
    assert layer_report([conv("conv")], [layer]).products == {"conv": precision}


def test_tensorrt_11_writes_format_and_type_apart() -> None:
    layer = engine("c", "conv") | {"Inputs": [{"Name": "x", "Format": "Row major linear FP32", "Datatype": "Half"}]}
    assert layer_report([conv("conv")], [layer]).products == {"conv": "fp16"}


def test_a_fused_layer_counts_for_each_product_in_it() -> None:
    network = [conv("q", kind="MATRIX_MULTIPLY"), conv("k", kind="MATRIX_MULTIPLY"), conv("relu", kind="ACTIVATION")]
    report = layer_report(
        network, [engine("qk", "q", "k", "relu", weights="Half"), engine("k0", "relu", outputs="Half")]
    )
    assert report.products == {"q": "fp16", "k": "fp16"}
    assert report.shares() == {"fp16": 1.0}
    assert report.to_json()["layers"][1]["product"] is False


def test_the_layer_with_the_products_kernel_tells_not_the_reformat_before_it() -> None:
    reformat = engine("copy", "conv", inputs="Float") | {"LayerType": "Reformat"}
    kernel = engine("c", "conv", weights="Half") | {"LayerType": "CaskConvolution"}
    for told in ([reformat, kernel], [kernel, reformat]):
        assert layer_report([conv("conv")], told).products == {"conv": "fp16"}


def test_without_metadata_the_layers_name_tells() -> None:
    layer = {"Name": "conv + relu", "LayerType": "CaskConvolution", "Weights": {"Type": "Half"}}
    report = layer_report([conv("conv"), conv("relu", kind="ACTIVATION")], [layer])
    assert (report.products, report.layers[0].nodes) == ({"conv": "fp16"}, ("conv", "relu"))


def test_what_is_no_json_is_kept_as_unknown_and_printable() -> None:
    report = layer_report([conv("conv")], ["conv", '{"Name": "broken "quote\x1b"}', 3, None])
    assert report.products == {"conv": "unknown"}
    assert "\x1b" not in json.dumps([layer.name for layer in report.layers])
    refuse_other_precision("fp16", report)  # nothing is told, so nothing is claimed


def mixed(narrow: int, wide: int) -> Any:
    network = [conv(f"c{number}") for number in range(narrow + wide)]
    kinds = ["Half"] * narrow + ["Float"] * wide
    layers = [engine(layer.name, layer.name, weights=kind) for layer, kind in zip(network, kinds, strict=True)]
    return layer_report(network, layers)


def test_half_of_the_products_must_be_in_the_type_asked_for() -> None:
    refuse_other_precision("fp16", mixed(2, 2))
    refuse_other_precision("fp32", mixed(0, 4))
    with pytest.raises(BuildError, match=r"3 of its 5 .*wider type \(3 in fp32, 2 in fp16\), such as c2, c3, c4"):
        refuse_other_precision("fp16", mixed(2, 3))
    with pytest.raises(BuildError, match="int8 was asked for, and the engine computes 4 of its 4"):
        refuse_other_precision("int8", mixed(4, 0))


def quantised(products: int, int8: int, others: int) -> Any:
    """Return the report of a file with quantisers round some products, of which so many became int8."""
    network = [conv(f"c{number}") for number in range(products + others)]
    for number in range(products):  # of the activation and of the weights
        network += [conv(f"q{number}", kind="QUANTIZE"), conv(f"d{number}", kind="DEQUANTIZE")]
        network.append(conv(f"w{number}", kind="DEQUANTIZE"))
    kinds = ["Int8"] * int8 + ["Half"] * (products + others - int8)
    layers = [engine(f"c{number}", f"c{number}", weights=kind) for number, kind in enumerate(kinds)]
    return layer_report(network, layers)


def test_int8_is_asked_of_the_products_between_quantisers_alone() -> None:
    report = quantised(products=4, int8=4, others=20)
    assert report.quantised == 4
    refuse_other_precision("int8", report)
    refuse_other_precision("int8", quantised(products=4, int8=2, others=20))
    with pytest.raises(BuildError, match="int8 was asked for"):
        refuse_other_precision("int8", quantised(products=4, int8=1, others=20))


def test_hostile_names_do_not_reach_the_terminal() -> None:
    network = [conv("\x1b[2Jc")]
    report = layer_report(network, [engine("x", "\x1b[2Jc", weights="Float")])
    with pytest.raises(BuildError) as caught:
        refuse_other_precision("fp16", report)
    assert "\x1b" not in str(caught.value)
