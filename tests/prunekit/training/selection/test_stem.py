import pytest
import torch
from torch import nn

from prunekit.errors import ConfigError
from prunekit.models.zoo import build
from prunekit.training.selection.stem import MAX_SHARE, StemRunner, find_stem

SPECS = [
    "python:prunekit.models.street:street_net?width=4",
    "smp:Unet?encoder=resnet18",
    "torchvision:lraspp_mobilenet_v3_large",
]


@pytest.mark.parametrize("spec", SPECS)
def test_the_stem_found_ends_within_a_quarter_of_the_macs_and_is_the_last_to(spec):
    network = build(spec, num_classes=3).network.train()
    images = torch.randn(2, 3, 64, 64)
    stem = find_stem(network, images)
    assert 0 < stem.share <= MAX_SHARE
    assert network.training
    reached: list[str] = []
    handles = [
        module.register_forward_hook(lambda *_, name=name: reached.append(name))
        for name, module in network.named_modules()
    ]
    features = StemRunner(network, stem).features(images, network)
    for handle in handles:
        handle.remove()
    assert features.shape[:2] == (2, stem.channels)
    assert not features.requires_grad
    assert reached[-1] == stem.name
    assert "" not in reached  # the network as a whole never ended


def test_the_features_are_those_of_the_whole_forward_pass_and_nothing_is_changed():
    network = build(SPECS[0], num_classes=3).network.train()
    network(torch.randn(4, 3, 32, 32))  # moves the running statistics off their start
    images = torch.randn(2, 3, 32, 32)
    stem = find_stem(network, images, "stage8")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    features = StemRunner(network, stem).features(images, network)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    seen: list[torch.Tensor] = []
    network.stage8.register_forward_hook(lambda *call: seen.append(call[2]))
    network.eval()(images)
    assert torch.equal(features, seen[0])


def test_a_name_that_is_no_stem_is_refused_with_names_that_are():
    network = build(SPECS[0], num_classes=3).network
    with pytest.raises(ConfigError, match=r"'nowhere'.*stage4"):
        find_stem(network, torch.zeros(1, 3, 32, 32), "nowhere")


def test_a_network_without_an_early_module_is_refused():
    with pytest.raises(ConfigError, match=r"selection\.stem must name one"):
        find_stem(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1)), torch.zeros(1, 3, 32, 32))
