"""Networks of transformers: from a folder once, then from the run alone; nothing fetched, nothing foreign run."""

import importlib.util
import json

import pytest
import torch

from prunekit.errors import ModelError, UntrustedCodeError
from prunekit.models.hf import named_by_settings
from prunekit.models.own_preprocessing import own_preprocessing
from prunekit.models.spec import parse_spec
from prunekit.models.trust import HF_ARGUMENTS, check_foreign
from prunekit.models.zoo import build

SMALL = "hf:segformer?hidden_sizes=[8,16,32,64]&depths=[1,1,1,1]&decoder_hidden_size=16"
needs_transformers = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason="transformers is not installed"
)


@pytest.fixture
def folder(tmp_path):
    """What somebody downloaded: a config with entries that say nothing about logits, and how images are prepared."""
    config = {"model_type": "segformer", "hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1]}
    config |= {"decoder_hidden_size": 16, "id2label": {"0": "a b"}, "torch_dtype": "float32", "hidden_act": "gelu"}
    path = tmp_path / "segformer-tiny"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(config))
    return path


def change(folder, **entries):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def test_a_folder_becomes_a_name_that_a_run_may_hold(folder):
    named = named_by_settings(f"hf:{folder}")
    assert named == "hf:segformer?decoder_hidden_size=16&depths=[1,1,1,1]&hidden_act=gelu&hidden_sizes=[8,16,32,64]"
    check_foreign(parse_spec(named), named)
    assert named_by_settings(named) == named
    assert named_by_settings("smp:Unet") == "smp:Unet"


@pytest.mark.parametrize("spec", ["hf:{folder}", "hf:segformer?hidden_act=x/y", "hf:segformer?attn_implementation=a"])
def test_a_run_names_neither_a_folder_nor_a_place(folder, spec):
    spec = spec.format(folder=folder)
    with pytest.raises(UntrustedCodeError):
        check_foreign(parse_spec(spec), spec)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"model_type": "upernet"}, "of the type 'upernet'; known are mobilenet_v2, .*python:package"),
        ({"auto_map": {"AutoModel": "code.Model"}}, "sets auto_map, which is not known"),
        ({"_attn_implementation": "kernels-community/flash-attn"}, "sets _attn_implementation"),
        ({"hidden_act": "kernels-community/act"}, "hidden_act to something other than a number"),
        ({"hidden_sizes": {"a": 1}}, "hidden_sizes to something other"),
        ({"hidden_act": "a" * 5000}, "5[0-9]* characters of settings"),
    ],
)
def test_a_config_is_held_to_the_list(folder, entries, says):
    change(folder, **entries)
    with pytest.raises(ModelError, match=says):
        named_by_settings(f"hf:{folder}")


def test_a_name_of_the_hub_is_not_fetched():
    with pytest.raises(ModelError, match=r"Nothing is fetched: download .* hf download NAME"):
        build("hf:nvidia/segformer-b0-finetuned-ade-512-512", num_classes=3)


def test_a_damaged_config_is_one_error(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ModelError, match="cannot be read"):
        named_by_settings(f"hf:{folder}")


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
def test_without_transformers_the_extra_is_named():
    with pytest.raises(ModelError, match=r"pip install 'prunekit\[hf\]'"):
        build(SMALL, num_classes=3)


@pytest.mark.parametrize(
    ("entries", "own"),
    [
        (
            {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [1, 2, 3], "size": 256},
            {"mean": (0.1, 0.2, 0.3), "std": (1.0, 2.0, 3.0), "height": 256, "width": 256, "channels": "rgb"},
        ),
        (
            {"do_flip_channel_order": True, "do_normalize": False, "size": {"height": 64, "width": 96}},
            {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "height": 64, "width": 96, "channels": "bgr"},
        ),
        ({"do_rescale": False, "size": {"shortest_edge": 64}}, {"pixel_scale": 1.0}),
    ],
)
def test_the_folder_says_how_images_are_prepared(folder, entries, own):
    (folder / "preprocessor_config.json").write_text(json.dumps(entries))
    found = own_preprocessing(f"hf:{folder}")
    assert own.items() <= found.settings.items()
    assert ("height" in own) == ("height" in found.settings)


@needs_transformers
def test_the_lists_are_what_the_library_takes():
    from transformers import CONFIG_MAPPING

    for kind, arguments in HF_ARGUMENTS.items():
        default = CONFIG_MAPPING[kind]()
        lacking = {name for name in arguments if not hasattr(default, name)}
        assert lacking <= {"image_size", "initializer_range", "layer_norm_eps"}, kind
        assert set(default.to_dict()) & arguments == arguments - lacking


@needs_transformers
@pytest.mark.parametrize("spec", [SMALL, "hf:mobilenet_v2?depth_multiplier=0.35", "hf:mobilevit", "hf:mobilevitv2"])
def test_networks_fulfil_the_contract(spec):
    segmenter = build(spec, num_classes=3, trust_code=False).eval()
    with torch.no_grad():
        assert segmenter(torch.zeros(1, 3, 70, 90)).shape == (1, 3, 70, 90)
