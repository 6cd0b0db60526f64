"""Lower bounds for the exact solver: a convex quadratic function that equals the objective on every choice.

For x in {0, 1}^C with sum k, x_i^2 = x_i, so x'Wx/2 = x'(W + diag u)x/2 - u'x/2 for every u. A u that makes the matrix
positive semidefinite on the directions that keep the sum gives a convex function whose minimum over 0 <= x <= 1,
sum x = k, is a lower bound: quadratic convex reformulation (Hammer and Rubin 1970 with one number for all diagonal
entries; Billionnet, Elloumi and Plateau 2009 with the best u, which is the dual of a semidefinite relaxation). Here u
climbs to that optimum by supergradients.

A convex function lies above its tangents, so the tangent at any x with sum k bounds it from below, and a minimum of a
linear function over choices is a sort. Bounds are valid however far the minimisation came; stopping it early costs
sharpness only.

C channels; N nodes (subproblems) at once. A node fixes low <= x <= high, both in {0, 1}^C.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from prunekit.pruning.arrays import FloatArray

_ROOT_STEPS = 80
_ROOT_DESCENT_STEPS = 12
_MARGIN = 1e-10
"""How far above zero the smallest eigenvalue is lifted, as a share of the largest: above the rounding of `eigh`."""

ChoiceArray = npt.NDArray[np.bool_]


class Bounds(NamedTuple):
    """What the relaxation says of each node."""

    bound_N: FloatArray
    """No choice within the node has a smaller objective."""
    x_NC: FloatArray
    """Where the tangent was taken: an approximate minimiser."""
    rounded_NC: ChoiceArray
    """A choice within the node: the minimiser of the tangent."""


@dataclass(frozen=True)
class Relaxation:
    """The convex function x'Qx/2 + c'x over 0 <= x <= 1, sum x = `keep`."""

    quadratic_CC: FloatArray
    linear_C: FloatArray
    keep: int
    curvature: float
    """Largest curvature along directions that keep the sum: the gradient's Lipschitz constant."""

    def bounds(self, x_NC: FloatArray, low_NC: ChoiceArray, high_NC: ChoiceArray, steps: int) -> Bounds:
        """Minimise from `x_NC` by accelerated projected gradients (Nesterov 1983) and take the tangent there.

        Args:
            x_NC: where to start; need not be within the node.
            low_NC: channels that are kept.
            high_NC: channels that are not yet removed; `keep` of them or more, and no more than `keep` of `low_NC`.
            steps: gradient steps.
        """
        x_NC = self._projected(x_NC, low_NC, high_NC)
        ahead_NC, momentum = x_NC, 1.0
        for _ in range(steps):
            gradient_NC = ahead_NC @ self.quadratic_CC + self.linear_C
            next_NC = self._projected(ahead_NC - gradient_NC / self.curvature, low_NC, high_NC)
            next_momentum = (1 + np.sqrt(1 + 4 * momentum**2)) / 2
            ahead_NC = next_NC + (momentum - 1) / next_momentum * (next_NC - x_NC)
            x_NC, momentum = next_NC, next_momentum
        # Where the function is nearly flat a step is long, and its projection is rounded: project the result again.
        return self._tangent(self._projected(x_NC, low_NC, high_NC), low_NC, high_NC)

    def _tangent(self, x_NC: FloatArray, low_NC: ChoiceArray, high_NC: ChoiceArray) -> Bounds:
        """Bound by f(x) + f'(x)(y - x), least over the choices y: kept channels and the smallest free gradients."""
        product_NC = x_NC @ self.quadratic_CC
        gradient_NC = product_NC + self.linear_C
        value_N = (x_NC * product_NC).sum(axis=1) / 2 + x_NC @ self.linear_C
        ranked_NC = np.where(low_NC, -np.inf, np.where(high_NC, gradient_NC, np.inf))
        chosen_NK = np.argpartition(ranked_NC, self.keep - 1, axis=1)[:, : self.keep]
        rounded_NC = np.zeros_like(low_NC)
        rounded_NC[np.arange(len(chosen_NK))[:, None], chosen_NK] = True
        bound_N = value_N + (gradient_NC * (rounded_NC - x_NC)).sum(axis=1)
        # The function is convex only along directions that keep the sum: where projection missed it, nothing is known.
        exact_N = np.abs(x_NC.sum(axis=1) - self.keep) <= _MARGIN * self.keep
        return Bounds(np.where(exact_N, bound_N, -np.inf), x_NC, rounded_NC)

    def _projected(self, x_NC: FloatArray, low_NC: ChoiceArray, high_NC: ChoiceArray) -> FloatArray:
        """Project on the node: one shift a node, after which clipping gives the sum.

        The sum of clip(x + t, 0, 1) is piecewise linear in t: every free channel starts to rise at t = -x and stops at
        t = 1 - x. Sorting these 2C points gives the piece, and the piece gives t.
        """
        free_NC = high_NC & ~low_NC
        points_NP = np.concatenate([-x_NC, 1 - x_NC], axis=1)
        turns_NP = np.concatenate([free_NC, free_NC], axis=1, dtype=np.float64)
        turns_NP[:, x_NC.shape[1] :] *= -1
        row_N1 = np.arange(len(x_NC))[:, None]
        order_NP = points_NP.argsort(axis=1)
        points_NP, slopes_NP = points_NP[row_N1, order_NP], turns_NP[row_N1, order_NP].cumsum(axis=1)
        sums_NP = np.zeros_like(points_NP)
        np.cumsum(slopes_NP[:, :-1] * (points_NP[:, 1:] - points_NP[:, :-1]), axis=1, out=sums_NP[:, 1:])
        missing_N1 = self.keep - low_NC.sum(axis=1, keepdims=True)
        piece_N = np.maximum((sums_NP < missing_N1).sum(axis=1) - 1, 0)  # the last point where the sum is too small
        at_N = row_N1[:, 0], piece_N
        shift_N = points_NP[at_N] + (missing_N1[:, 0] - sums_NP[at_N]) / np.maximum(slopes_NP[at_N], 1)
        return np.clip(x_NC + shift_N[:, None], low_NC, high_NC)


def best_relaxation(weights_CC: FloatArray, keep: int) -> Relaxation:
    """Return the relaxation of the largest bound that `_ROOT_STEPS` supergradient steps on u find.

    The bound is concave in u once u is shifted to make the matrix semidefinite. Its supergradient is, up to a factor,
    p_i * sum_j (x_j - x_j^2) - (x_i - x_i^2), with x the minimiser and p the squared components of the smallest
    eigenvector; where several eigenvalues are nearly smallest, p averages theirs by a soft minimum (our choice).

    Args:
        weights_CC: non-negative, symmetric, zero diagonal; two channels or more.
        keep: in 1..C - 1.
    """
    channels = len(weights_CC)
    basis_CM = _sum_free_basis(channels)
    scale = float(np.abs(np.linalg.eigvalsh(basis_CM.T @ weights_CC @ basis_CM)).max()) or 1.0
    none_1C = np.zeros((1, channels), dtype=bool)
    u_C, x_1C = np.zeros(channels), np.full((1, channels), keep / channels)
    best, best_bound = None, -np.inf
    for step in range(_ROOT_STEPS):
        values_M, vectors_MM = np.linalg.eigh(basis_CM.T @ (weights_CC + np.diag(u_C)) @ basis_CM)
        lifted_C = u_C - values_M[0] + _MARGIN * scale
        # The curvature is 0 where all weights are equal, and a step is its inverse.
        curvature = float(values_M[-1] - values_M[0]) + 10 * _MARGIN * scale
        relaxation = Relaxation(weights_CC + np.diag(lifted_C), -lifted_C / 2, keep, curvature)
        found = relaxation.bounds(x_1C, none_1C, ~none_1C, _ROOT_DESCENT_STEPS)
        x_1C = found.x_NC
        if best is None or found.bound_N[0] > best_bound:
            best, best_bound = relaxation, float(found.bound_N[0])
        soft_M = np.exp((values_M[0] - values_M) * (40 + 2 * step) / scale)
        squares_C = (basis_CM @ vectors_MM) ** 2 @ (soft_M / soft_M.sum())
        slack_C = (x_1C - x_1C**2)[0]
        slope_C = squares_C * slack_C.sum() - slack_C
        u_C = u_C + scale / 2 / np.sqrt(1 + step / 5) * slope_C / max(float(np.linalg.norm(slope_C)), 1e-9)
    assert best is not None, "there is at least one step"
    return best


def _sum_free_basis(channels: int) -> FloatArray:
    """Return [C, C - 1]: an orthonormal basis of the directions whose entries sum to zero."""
    start_CC = np.column_stack([np.ones(channels), np.eye(channels)[:, 1:]])
    return np.linalg.qr(start_CC)[0][:, 1:]
