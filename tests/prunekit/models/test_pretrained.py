"""Pretrained encoders really loaded, from the caches of the hub and of torch; and what is said where they are empty."""

import pytest
import torch
from safetensors.torch import save_file

from prunekit.errors import ModelError
from prunekit.models.own_preprocessing import own_preprocessing
from prunekit.models.zoo import build
from prunekit.recipe import IMAGENET_MEAN, parse_recipe
from prunekit.run import RunDirectory
from prunekit.workflows.preparing import Adopted, with_pretrained_preprocessing
from prunekit.workflows.train import train

SMP = "smp:Unet?encoder=resnet18"
TIMM = "smp:Unet?encoder=tu-resnet18.a1_in1k"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache of the hub, and a machine that is offline."""
    from huggingface_hub import constants

    folder = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder))
    monkeypatch.setattr("huggingface_hub.file_download.constants.HF_HUB_CACHE", str(folder))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("timm.models._hub.HF_HUB_CACHE", str(folder), raising=False)
    return folder


def stored(cache, repo, revision, config, tensors):
    """Write a repository as the hub's client keeps it."""
    place = cache / f"models--{repo.replace('/', '--')}"
    (place / "snapshots" / revision).mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs/main").write_text(revision)
    (place / "snapshots" / revision / "config.json").write_text(config)
    save_file(tensors, place / "snapshots" / revision / "model.safetensors")


def drawn(state):
    generator = torch.Generator().manual_seed(7)
    return {
        name: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value.clone()
        for name, value in state.items()
    }


def test_an_encoder_of_smp_comes_from_the_cache(cache):
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    tensors = drawn(build(SMP, num_classes=3).network.encoder.state_dict())
    config = '{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_space": "BGR", "input_range": [0, 255]}'
    stored(cache, settings["repo_id"], settings["revision"], config, tensors)
    encoder = build(SMP, num_classes=3, pretrained=True).network.encoder
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in tensors.items())
    own = {"channels": "bgr", "pixel_scale": 1.0, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}
    assert own_preprocessing(SMP).settings == own


def test_a_training_adopts_the_preprocessing_of_its_weights(cache, tmp_path):
    from segmentation_models_pytorch.encoders import encoders

    settings = encoders["resnet18"]["pretrained_settings"]["imagenet"]
    tensors = build(SMP, num_classes=3).network.encoder.state_dict()
    config = '{"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6], "input_space": "BGR", "input_range": [0, 255]}'
    stored(cache, settings["repo_id"], settings["revision"], config, tensors)
    values = {
        "data": {"height": 32, "width": 64, "train_images": 2, "val_images": 1, "std": (1.0, 1.0, 1.0)},
        "model": {"name": SMP, "pretrained": True},
        "train": {"epochs": 1, "batch_size": 2, "threads": 1, "device": "cpu"},
    }
    run = RunDirectory(tmp_path / "run")
    run.path.mkdir()
    report = train(parse_recipe(values), run)
    contract = report.card.contract
    assert (contract.channel_order, contract.scale) == ("bgr", 1.0)
    assert contract.mean == (0.1, 0.2, 0.3)
    assert contract.std == (1.0, 1.0, 1.0)  # the recipe's own word
    assert run.recipe().data.mean == (0.1, 0.2, 0.3)
    assert (contract.height, contract.width) == (32, 64)


@pytest.mark.parametrize(
    ("model", "mean", "source"),
    [
        ({"name": "smp:Unet?encoder=xception", "pretrained": True}, (0.5, 0.5, 0.5), "smp's xception"),
        ({"name": "smp:Unet?encoder=xception"}, IMAGENET_MEAN, ""),
        ({"name": SMP, "pretrained": True}, IMAGENET_MEAN, "ImageNet's, assumed"),
        ({"name": "torchvision:fcn_resnet50", "pretrained": True}, IMAGENET_MEAN, "torchvision's fcn_resnet50"),
    ],
)
def test_whose_preprocessing_it_is_is_said(cache, model, mean, source):
    adopted = with_pretrained_preprocessing(parse_recipe({"model": model}))
    assert adopted.recipe.data.mean == pytest.approx(mean)
    assert adopted.source.startswith(source)
    assert bool(adopted.source) == bool(source)
    again = with_pretrained_preprocessing(adopted.recipe)
    assert again.recipe == adopted.recipe


def test_what_the_recipe_says_stays(cache):
    own = {"mean": (0.3, 0.3, 0.3), "std": (0.2, 0.2, 0.2), "channels": "rgb", "pixel_scale": 1.0}
    recipe = parse_recipe({"model": {"name": "smp:Unet?encoder=xception", "pretrained": True}, "data": own})
    assert with_pretrained_preprocessing(recipe) == Adopted(recipe, "as the recipe says")


def test_an_encoder_of_timm_comes_from_the_cache(cache):
    import timm

    tensors = drawn(timm.create_model("resnet18.a1_in1k").state_dict())
    stored(cache, "timm/resnet18.a1_in1k", "0" * 40, "{}", tensors)
    state = build(TIMM, num_classes=3, pretrained=True).network.encoder.model.state_dict()
    assert state
    assert all(torch.equal(value, tensors[name]) for name, value in state.items())
    assert own_preprocessing(TIMM).settings["mean"] == pytest.approx((0.485, 0.456, 0.406))


def test_a_backbone_of_torchvision_comes_from_the_cache(tmp_path, monkeypatch):
    from torchvision import models

    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    weights = models.MobileNet_V3_Large_Weights.DEFAULT
    tensors = drawn(models.mobilenet_v3_large().state_dict())
    path = tmp_path / "hub/checkpoints" / weights.url.rpartition("/")[2]
    path.parent.mkdir(parents=True)
    torch.save(tensors, path)
    network = build("torchvision:lraspp_mobilenet_v3_large", num_classes=3, pretrained=True).network
    state = network.backbone.state_dict()
    assert state
    assert all(torch.equal(value, tensors[f"features.{name}"]) for name, value in state.items())


@pytest.mark.parametrize("spec", [SMP, TIMM])
def test_offline_and_without_a_cache_it_is_said_what_to_do(cache, spec):
    with pytest.raises(ModelError, match=r"pretrained weights of smp:Unet cannot be downloaded .*--no-pretrained"):
        build(spec, num_classes=3, pretrained=True)


@pytest.mark.parametrize(
    ("spec", "mean"),
    [
        ("smp:Unet?encoder=xception", (0.5, 0.5, 0.5)),
        ("smp:Unet?encoder=tu-vit_base_patch16_224.augreg_in21k", (0.5, 0.5, 0.5)),
        ("torchvision:deeplabv3_resnet50", (0.485, 0.456, 0.406)),
    ],
)
def test_what_a_library_knows_of_its_images_needs_no_cache(cache, spec, mean):
    assert own_preprocessing(spec).settings["mean"] == pytest.approx(mean)


@pytest.mark.parametrize("spec", ["smp:Unet?encoder=resnet18", "smp:Unet?encoder=tu-no_such_net", "python:a.b:c"])
def test_what_nobody_knows_is_not_made_up(cache, spec):
    assert own_preprocessing(spec) is None
