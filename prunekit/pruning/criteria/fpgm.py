"""FPGM (He et al. 2019, "Filter pruning via geometric median"): filters near all others can be replaced by them."""

import numpy as np
import torch
from torch import Tensor

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Group, Slot, makers, unit_index
from prunekit.pruning.criteria.criterion import Scores
from prunekit.pruning.evidence import Evidence


def fpgm_scores(evidence: Evidence) -> Scores:
    """Sum the Euclidean distances of a unit's raw weights to those of the layer's other units, over the group's layers.

    sum_j ||W_i - W_j||_2 as in the paper's code (`get_filter_similar`).
    """
    scores: Scores = {}
    for group in evidence.coupling.free:
        total_U = np.zeros(group.width)
        for slot, weight in makers(group, evidence.coupling, evidence.network):
            total_U += distances(unit_rows(weight, slot, group))
        scores[group.name] = total_U
    return scores


def unit_rows(weight: Tensor, slot: Slot, group: Group) -> Tensor:
    """Return [U, D]: all weights of each unit in one row, float64; filters of a unit stand one behind the other."""
    filters_CD = weight.detach().movedim(slot.dim, 0).flatten(1)
    units = unit_index(slot, group)
    positions = np.argsort(units, kind="stable")[int((units < 0).sum()) :]
    rows = filters_CD[torch.from_numpy(positions).to(filters_CD.device)].double()
    return rows.reshape(group.width, -1)


def distances(rows_UD: Tensor) -> FloatArray:
    """Sum the Euclidean distances of each row to all rows; by the Gram in float64, whose rounding is below 1e-7."""
    square_U = rows_UD.square().sum(dim=1)
    square_UU = square_U[:, None] + square_U[None, :] - 2 * rows_UD @ rows_UD.T
    return square_UU.clamp_min(0).fill_diagonal_(0).sqrt().sum(dim=1).cpu().numpy()
