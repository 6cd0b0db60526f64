"""A network under the knife: on its device, analysed, and timed where the target is a latency."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prunekit.modelfile import LoadedModel
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency import LatencyTable
from prunekit.workflows.pruning.job import Job, LatencyMeter


@dataclass(frozen=True)
class Analysed:
    """A network on the device, and what is known of it."""

    loaded: LoadedModel
    input_shape: tuple[int, ...]
    """Of one image, (1, 3, H, W)."""
    coupling: Coupling
    table: LatencyTable | None
    """For a target in milliseconds: of this network, or of the source where it was given."""

    @property
    def network(self) -> nn.Module:
        """What was analysed."""
        return self.loaded.segmenter.network


def analysed(loaded: LoadedModel, job: Job) -> Analysed:
    """Move a network to the device, analyse it, and time its layers if the target is a latency and there is a meter.

    Raises:
        PruneError: the network cannot be analysed.
    """
    segmenter = loaded.segmenter.to(job.device)
    job.tell("Analysing which channels belong together")
    blank_13HW = _blank(loaded, job)
    image_13HW = job.example(loaded) if blank_13HW is None else blank_13HW
    coupling = analyse(segmenter.network, (image_13HW,))
    table = job.table
    if job.config.target_kind == "latency" and job.meter is not None:
        job.tell("Measuring how long each layer takes")
        table = job.meter.table(copy.deepcopy(segmenter).cpu(), tuple(image_13HW.shape), coupling)
    return Analysed(loaded, tuple(image_13HW.shape), coupling, table)


def needs_images(loaded: LoadedModel) -> bool:
    """Tell whether the size of the network's input is known from images alone."""
    return not loaded.contract.height


def _blank(loaded: LoadedModel, job: Job) -> Tensor | None:
    """Return an image of the network's size, for an analysis looks at shapes alone; None where data must say it."""
    if needs_images(loaded):
        return None
    contract = loaded.contract
    return torch.zeros(1, 3, *contract.network_size(contract.height, contract.width), device=job.device)


def measured_ms(segmenter: Segmenter, input_shape: tuple[int, ...], meter: LatencyMeter, network: nn.Module) -> float:
    """Measure a cut copy of a segmenter's network as a whole."""
    cut = Segmenter(network.cpu(), segmenter.num_classes, segmenter.stride).eval()
    return meter.network_ms(cut, input_shape)
