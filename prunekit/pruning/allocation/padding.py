"""What channel counts that are no multiple of a kernel's step cost for nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling


@dataclass(frozen=True)
class PaddingWaste:
    """MACs that are spent on channels which are not there."""

    align: int
    macs: int
    """MACs of the network at the kept widths."""
    wasted: int
    """MACs on top of them when every channel dimension is filled up to a multiple of `align`."""
    layers: dict[str, int]
    """Those by layer; layers that waste nothing are left out."""

    @property
    def share(self) -> float:
        """Wasted MACs as a share of all that the kernels spend."""
        spent = self.macs + self.wasted
        return self.wasted / spent if spent else 0.0


def padding_waste(coupling: Coupling, keep: Mapping[str, Sequence[int]] | None = None, align: int = 8) -> PaddingWaste:
    """Return what kernels that work on multiples of `align` channels would waste at the kept widths.

    A model, not a measurement: the count of each channel dimension is rounded up. Tensor cores work on 8 channels in
    FP16 and on 16 or 32 in INT8; libraries for CPUs on 8 or 16. Dimensions of one channel (per-channel kernels) and
    the image's own channels are rounded up too, so the dense network (`keep` None) has a waste of its own.

    Raises:
        PruneError: the alignment is less than 1.
    """
    if align < 1:
        raise PruneError(f"The alignment must be at least 1 channel, got {align}. Write 8.")
    removed = coupling.removed(keep or {})
    layers: dict[str, int] = {}
    for cost in coupling.costs:
        lengths = [int(np.count_nonzero(~removed[labels])) for labels in cost.dims]
        padded = cost.positions
        for length in lengths:
            padded *= -(-length // align) * align
        waste = padded - cost.macs(removed)
        if waste:
            layers[cost.layer] = layers.get(cost.layer, 0) + waste
    return PaddingWaste(align, coupling.macs(keep), sum(layers.values()), layers)
