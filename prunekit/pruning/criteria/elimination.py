"""Backward elimination with refit: remove, one at a time, the unit that the remaining ones can best stand in for.

A consumer reads x (U units, second moments G = E[x x^T]) through a weight of rows w_u. If unit u goes and the rows of
the others are refitted, the error of the consumer's output rises by exactly

    price_u = (w_u^T S w_u) / [G^-1]_uu

where S weighs the outputs (identity, or how much the loss depends on them), and the refit is
w_i <- w_i - w_u [G^-1]_iu / [G^-1]_uu. 1 / [G^-1]_uu is the part of unit u's energy that no linear combination of the
others explains: the redundancy that counts once compensation is allowed. The same algebra as optimal brain surgery
(Hassibi and Stork 1993), a channel at a time. Only H = W S W^T is needed, never W, and both matrices change by rank one
or two a step.

Steps are taken in blocks: within one, columns are corrected as they are needed; at its end all corrections become one
matrix product, and what has gone is dropped. R removals of U units cost 3 U^2 R multiply-adds at the speed of a matrix
product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from prunekit.pruning.evidence import Ranking

BLOCK = 64


@dataclass(frozen=True)
class Consumer:
    """One reader of the units: the second moments of what it reads, and W S W^T of its weight."""

    moment_UU: Tensor
    influence_UU: Tensor


def eliminate(consumers: Sequence[Consumer], ridge: float) -> Ranking:
    """Return the units in the order of removal with the error that each removal adds, summed over the consumers.

    Args:
        consumers: one or more readers of the same units; each is refitted by itself.
        ridge: added to the diagonal of the moments, relative to its mean; keeps silent and equal units apart.
    """
    problems = [_Problem.of(consumer, ridge) for consumer in consumers]
    unit_U = torch.arange(len(problems[0].inverse_UU))
    order: list[int] = []
    prices: list[float] = []
    while len(unit_U):
        steps = min(BLOCK, len(unit_U))
        for problem in problems:
            problem.open(steps)
        rows, block_prices = _remove(problems, steps)
        left = torch.ones(len(unit_U), dtype=torch.bool)
        left[rows] = False
        for problem in problems:
            problem.close(left.nonzero().flatten())
        order += unit_U[rows].tolist()
        prices += block_prices
        unit_U = unit_U[left]
    # A price is a variance times a variance; rounding may leave it below zero.
    return Ranking(np.asarray(order, dtype=np.int64), np.maximum(np.asarray(prices), 0.0))


def _remove(problems: Sequence["_Problem"], steps: int) -> tuple[list[int], list[float]]:
    alive_U = torch.ones(len(problems[0].inverse_UU), dtype=torch.bool)
    rows: list[int] = []
    prices: list[float] = []
    for step in range(steps):
        total_U = torch.stack([problem.price() for problem in problems]).sum(dim=0)
        row = int(torch.where(alive_U, total_U, torch.inf).argmin())
        rows.append(row)
        prices.append(float(total_U[row]))
        alive_U[row] = False
        for problem in problems:
            problem.remove(row, step)
    return rows, prices


class _Problem:
    """One consumer: P = G^-1 and H = W S W^T of what is left, with corrections that wait for the end of a block.

    P is P0 - F diag(p) F^T and H is H0 - F B^T - B F^T, a column of F (the refit), of B and an entry of p a removal.
    """

    def __init__(self, inverse_UU: Tensor, influence_UU: Tensor) -> None:
        self.inverse_UU, self.influence_UU = inverse_UU, influence_UU
        self.open(0)

    @classmethod
    def of(cls, consumer: Consumer, ridge: float) -> Self:
        moment_UU = consumer.moment_UU.double()
        strength = ridge * moment_UU.diagonal().mean().clamp_min(1e-30)
        regular_UU = moment_UU + strength * torch.eye(len(moment_UU), dtype=torch.float64)
        return cls(torch.cholesky_inverse(torch.linalg.cholesky(regular_UU)), consumer.influence_UU.double())

    def open(self, steps: int) -> None:
        """Begin a block of at most `steps` removals."""
        width = len(self.inverse_UU)
        self.fits_US, self.shares_US = (self.inverse_UU.new_zeros(width, steps) for _ in range(2))
        self.pivots_S = self.inverse_UU.new_zeros(steps)
        self.diagonal_P, self.diagonal_H = self.inverse_UU.diagonal().clone(), self.influence_UU.diagonal().clone()

    def price(self) -> Tensor:
        """Return what each removal would add to this consumer's error; of what is gone it is meaningless."""
        return self.diagonal_H / self.diagonal_P

    def remove(self, row: int, step: int) -> None:
        """Refit the others to stand in for `row`."""
        before = slice(0, step)
        column_P = self.inverse_UU[:, row] - self.fits_US[:, before] @ (
            self.pivots_S[before] * self.fits_US[row, before]
        )
        column_H = self.influence_UU[:, row] - self.fits_US[:, before] @ self.shares_US[row, before]
        column_H = column_H - self.shares_US[:, before] @ self.fits_US[row, before]
        pivot = column_P[row]
        fit_U = column_P / pivot
        share_U = column_H - fit_U * (column_H[row] / 2)
        self.fits_US[:, step], self.shares_US[:, step], self.pivots_S[step] = fit_U, share_U, pivot
        self.diagonal_P -= fit_U.square() * pivot
        self.diagonal_H -= 2 * fit_U * share_U

    def close(self, left: Tensor) -> None:
        """Carry the corrections out and drop what is gone."""
        fits, shares = self.fits_US[left], self.shares_US[left]
        cross = fits @ shares.T
        self.inverse_UU = self.inverse_UU[left][:, left] - (fits * self.pivots_S) @ fits.T
        self.influence_UU = self.influence_UU[left][:, left] - cross - cross.T
