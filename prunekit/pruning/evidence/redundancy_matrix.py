"""How much channels repeat each other: measures on the collected second moments.

Cosines of second moments have no scale, so layers, crop sizes and pooled branches can be compared; the measure of
SIRFP's code, an inner product of L1-normalised maps, shrinks with the number of pixels (`pruning.sirfp_paper`).
"""

import torch
from torch import Tensor

from prunekit.pruning.evidence.statistics import Statistics


def cosine(moment_CC: Tensor) -> Tensor:
    """Return absolute cosines, zero on the diagonal; a channel that is always zero repeats everything (cosine 1)."""
    norm_C = moment_CC.diagonal().clamp_min(0).sqrt()
    silent_C = norm_C <= 1e-6 * norm_C.max().clamp_min(1e-30)
    safe_C = norm_C.masked_fill(silent_C, 1.0)
    result_CC = (moment_CC / safe_C[:, None] / safe_C[None, :]).abs().clamp_max(1.0)
    result_CC = result_CC.masked_fill(silent_C[:, None] | silent_C[None, :], 1.0)
    return result_CC.fill_diagonal_(0.0)


def redundancy(statistics: Statistics, group: str) -> Tensor:
    """Return the redundancy matrix of a group: cosines averaged over the consumers that see it."""
    return torch.stack([cosine(moments.moment_UU) for moments in statistics.seen(group)]).mean(dim=0)
