"""The lists of what a file may name, against the libraries at hand; and factories that start from a file."""

import inspect
import json
import sys
from importlib import import_module

import pytest
import segmentation_models_pytorch as smp
import torch
from torchvision import models

from prunekit.data.dataset import ClassMap
from prunekit.data.transforms import contract_of
from prunekit.errors import ModelError, UntrustedCodeError
from prunekit.modelfile import load_model, new_card, save_model
from prunekit.models.spec import parse_spec
from prunekit.models.trust import FACTORIES, SMP_ARGUMENTS, TORCHVISION_ARGUMENTS, check_foreign
from prunekit.models.zoo import build
from prunekit.recipe import DataConfig, ModelConfig
from prunekit.run import RunDirectory

# What the data set, the contract and --pretrained decide; and a mapping, which no specification can hold.
ELSEWHERE = {"self", "classes", "num_classes", "in_channels", "encoder_weights", "weights", "weights_backbone"}
ELSEWHERE |= {"aux_params", "kwargs"}
CLASSES = ClassMap(("road", "sky", "car"), ((1, 2, 3), (4, 5, 6), (7, 8, 9)))


def test_what_the_libraries_take_is_on_the_lists():
    for network in smp.MODEL_ARCHITECTURES_MAPPING.values():
        assert set(inspect.signature(network.__init__).parameters) - ELSEWHERE <= SMP_ARGUMENTS
    for name in models.list_models(module=models.segmentation):
        assert set(inspect.signature(models.get_model_builder(name)).parameters) - ELSEWHERE <= TORCHVISION_ARGUMENTS


def test_the_factories_on_the_list_exist():
    for name, arguments in FACTORIES.items():
        assert build(f"python:{name}", num_classes=3, trust_code=False).num_classes == 3
        module, _, attribute = name.partition(":")
        factory = getattr(import_module(module), attribute)
        assert set(inspect.signature(factory).parameters) == {"num_classes", *arguments}


@pytest.mark.parametrize(
    "spec",
    [
        "python:prunekit.models.street:street_net?width=32",
        "smp:Unet?encoder=timm-efficientnet-b0&decoder_channels=[64,32,16,16,8]&decoder_attention_type=scse",
        "smp:DPT?encoder=tu-vit_base_patch16_224.augreg_in21k&dynamic_img_size=true&drop_path_rate=0.1",
        "smp:Unet?encoder=tu-swin_tiny_patch4_window7_224&img_size=[256,512]",
        "torchvision:deeplabv3_resnet50?aux_loss=true",
    ],
)
def test_what_is_harmless_needs_no_trust(spec):
    check_foreign(parse_spec(spec), spec)


def test_an_argument_that_torchvision_drops_is_refused():
    with pytest.raises(ModelError, match="does not take typo"):
        build("torchvision:fcn_resnet50?typo=1", num_classes=3)


READER = """
import torch
from prunekit.models.street import StreetNet

def make(num_classes, weights="{path}"):
    network = StreetNet(num_classes, 4)
    if weights is not None:
        network.load_state_dict(torch.load(weights, weights_only=True))
    return network
"""


@pytest.fixture
def reader(tmp_path, monkeypatch):
    """A module of the user's whose factory reads a file, and that file."""
    path = tmp_path / "start.pth"
    torch.save(build("python:prunekit.models.street:street_net?width=4", num_classes=3).network.state_dict(), path)
    module = tmp_path / "reading_module.py"
    module.write_text(READER.format(path=path))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "reading_module", raising=False)
    return path


def saved(run, spec):
    segmenter = build(spec, num_classes=3).eval()
    return segmenter, save_model(
        run, segmenter, new_card(ModelConfig(name=spec), CLASSES, contract_of(DataConfig(), 1))
    )


def test_a_run_whose_factory_starts_from_a_file_is_loaded_without_it(reader, tmp_path):
    run, images = RunDirectory(tmp_path / "run"), torch.zeros(1, 3, 32, 32)
    segmenter, card = saved(run, f"python:reading_module:make?weights={reader}")
    assert torch.equal(segmenter.network.classifier.weight, torch.load(reader, weights_only=True)["classifier.weight"])
    reader.unlink()
    assert json.loads(run.model_path.read_text())["factory"] == card.factory
    with pytest.raises(UntrustedCodeError):
        load_model(run)
    loaded = load_model(run, trust_code=True)
    with torch.no_grad():
        assert torch.equal(loaded.segmenter(images), segmenter(images))


def test_a_factory_that_always_reads_a_file_is_refused_by_name_where_it_is_gone(reader, tmp_path):
    run = RunDirectory(tmp_path / "run")
    saved(run, "python:reading_module:make")
    reader.unlink()
    with pytest.raises(ModelError) as refusal:
        load_model(run, trust_code=True)
    for part in (str(run.model_path), str(reader), "reading_module:make", "Put it back", "?weights=FILE"):
        assert part in str(refusal.value)
