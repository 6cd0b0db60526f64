"""A network under the knife: on its device, analysed, and timed where the target is a latency."""

import copy
from dataclasses import dataclass

from torch import Tensor, nn

from prunekit.modelfile import LoadedModel
from prunekit.models.segmenter import Segmenter
from prunekit.pruning.analysis import analyse
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.latency_table import LatencyTable
from prunekit.workflows.pruning.job import Job, LatencyMeter


@dataclass(frozen=True)
class Analysed:
    """A network on the device, and what is known of it."""

    loaded: LoadedModel
    example_13HW: Tensor
    coupling: Coupling
    table: LatencyTable | None
    """For a target in milliseconds: of this network, or of the source where it was given."""

    @property
    def network(self) -> nn.Module:
        """What was analysed."""
        return self.loaded.segmenter.network

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one image, (1, 3, H, W)."""
        return tuple(self.example_13HW.shape)


def analysed(loaded: LoadedModel, job: Job) -> Analysed:
    """Move a network to the device, analyse it, and time its layers if the target is a latency and there is a meter.

    Raises:
        PruneError: the network cannot be analysed.
    """
    segmenter = loaded.segmenter.to(job.device)
    job.tell("Analysing which channels belong together")
    example_13HW = job.example(loaded)
    coupling = analyse(segmenter.network, (example_13HW,))
    table = job.table
    if job.config.target_kind == "latency" and job.meter is not None:
        job.tell("Measuring how long each layer takes")
        table = job.meter.table(copy.deepcopy(segmenter).cpu(), tuple(example_13HW.shape), coupling)
    return Analysed(loaded, example_13HW, coupling, table)


def measured_ms(segmenter: Segmenter, input_shape: tuple[int, ...], meter: LatencyMeter, network: nn.Module) -> float:
    """Measure a cut copy of a segmenter's network as a whole."""
    cut = Segmenter(network.cpu(), segmenter.num_classes, segmenter.stride).eval()
    return meter.network_ms(cut, input_shape)
