"""The networks of the tables, with random weights: dense, and with shares of the MACs cut away."""

import functools
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from gpu_steps.step import Bench
from gpu_steps.tiny import tiny_net
from prunekit.models.segmenter import Segmenter
from prunekit.models.zoo import build
from prunekit.pruning import Coupling, analyse, pruned
from prunekit.pruning.allocation import uniform_keep
from prunekit.pruning.surgery import make_plan

CLASSES = 19
HALF, MOST = "cut by half", "cut most"
CUTS = (HALF, MOST)
DENSE, AGAIN = "dense", "dense again"
"""The second is a copy of the first: its ratio is 1 where the measurement is sound."""


@dataclass(frozen=True)
class Subject:
    """A network and the size of its images."""

    specs: Mapping[str, str]
    """Names for the zoo by the module that they need; the first that is installed is taken."""
    height: int = 512
    width: int = 1024
    crop: int = 512
    align: int = 8
    most: float = 0.75
    """Share of the MACs that goes at most."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Return the module that is to be installed, if none of those that build it is."""
        return () if self._installed() else tuple(self.specs)[:1]

    def spec(self) -> str:
        """Return the name that is built here."""
        return self.specs[self._installed()[0]]

    def _installed(self) -> list[str]:
        return [module for module in self.specs if importlib.util.find_spec(module) is not None]


SUBJECTS: Mapping[str, Subject] = {
    "DeepLabV3-ResNet50": Subject({"torchvision": "torchvision:deeplabv3_resnet50"}),
    "DeepLabV3+-MobileNetV2": Subject({"segmentation_models_pytorch": "smp:DeepLabV3Plus?encoder=mobilenet_v2"}),
    "SegFormer-B0": Subject(
        {"transformers": "hf:segformer", "segmentation_models_pytorch": "smp:Segformer?encoder=mit_b0"},
        most=0.6,  # the width of its embeddings stays, and 0.75 is out of reach
    ),
}
DRY_SUBJECTS: Mapping[str, Subject] = {
    "tiny_net": Subject({"torch": f"python:{tiny_net.__module__}:tiny_net"}, 32, 64, 64, 1)
}


def subjects(bench: Bench) -> Mapping[str, Subject]:
    """Return the networks of the tables, or the tiny one of a dry run."""
    return DRY_SUBJECTS if bench.dry_run else SUBJECTS


@dataclass(frozen=True)
class Family:
    """A dense network and what was cut out of it, on the device."""

    spec: str
    coupling: Coupling
    members: Mapping[str, Segmenter]
    macs: Mapping[str, int]

    def ratio(self, name: str) -> float:
        """Return how many times the MACs of a member the dense network has."""
        return self.macs[DENSE] / self.macs[name]


@functools.lru_cache(maxsize=1)
def family(subject_name: str, device: str) -> Family:
    """Build, analyse and cut a network whose package is installed; the last one is kept."""
    subject = {**SUBJECTS, **DRY_SUBJECTS}[subject_name]
    spec = subject.spec()
    torch.manual_seed(0)
    dense = build(spec, num_classes=CLASSES).eval()
    coupling = analyse(dense.network, (torch.zeros(1, 3, subject.height, subject.width),))
    members, macs = {DENSE: dense, AGAIN: _like(dense, dense.network)}, {DENSE: coupling.macs(), AGAIN: coupling.macs()}
    last_first = {group.name: -np.arange(group.width) for group in coupling.free}  # random weights say nothing
    for name, ratio in ((HALF, 0.5), (MOST, subject.most)):
        keep = uniform_keep(coupling, ratio, subject.align, last_first)
        members[name] = _like(dense, pruned(dense.network, make_plan(coupling, keep)))
        macs[name] = coupling.macs(keep)
    return Family(spec, coupling, {name: member.to(device) for name, member in members.items()}, macs)


def _like(dense: Segmenter, network: torch.nn.Module) -> Segmenter:
    return Segmenter(network, dense.num_classes, dense.stride).eval()
