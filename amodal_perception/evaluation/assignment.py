"""The best one-to-one assignment of rows to columns (the "Hungarian" problem)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(gain: NDArray[np.float64]) -> NDArray[np.int64]:
    """Pair rows with columns so that the gains of the pairs sum to the most.

    Every row gets a column, or every column a row, whichever there are fewer of: pairs that gain
    nothing are made too, leftover rows with leftover columns in their order.

    Args:
        gain: [N, M], 0 or more.

    Returns:
        [min(N, M), 2] rows and columns, ascending by row.
    """
    n, m = gain.shape
    if n > m:
        pairs = assign(gain.T)[:, ::-1]
        return pairs[np.argsort(pairs[:, 0])]
    rows = np.flatnonzero(gain.any(axis=1))
    column_of = np.full(n, -1, np.int64)
    best = gain[rows].argmax(axis=1) if len(rows) else np.zeros(0, np.int64)
    if len(np.unique(best)) == len(rows):  # nobody wants the same: nothing to solve
        column_of[rows] = best
    else:
        column_of[rows] = _shortest_paths(gain.max() - gain[rows])
        nothing = column_of >= 0
        nothing[rows] = gain[rows, column_of[rows]] == 0
        column_of[nothing] = -1
    left = np.setdiff1d(np.arange(m), column_of)
    open_rows = np.flatnonzero(column_of < 0)
    column_of[open_rows] = left[: len(open_rows)]
    return np.stack([np.arange(n), column_of], axis=1)


def _shortest_paths(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the column of every row at least cost, by successive shortest augmenting paths.

    Kuhn and Munkres's method in the form of Jonker and Volgenant: rows enter one by one, each by
    the cheapest chain of moves, measured in costs reduced by the prices of rows and columns.

    Args:
        cost: [N, M], N <= M.
    """
    n, m = cost.shape
    row_price, column_price = np.zeros(n), np.zeros(m)
    row_of = np.full(m, -1)
    for new_row in range(n):
        distance = np.full(m, np.inf)
        come_from = np.full(m, -1)
        done = np.zeros(m, np.bool_)
        row, column, reached = new_row, -1, 0.0
        while row >= 0:
            through = reached + cost[row] - row_price[row] - column_price
            shorter = ~done & (through < distance)
            distance[shorter] = through[shorter]
            come_from[shorter] = column
            column = int(np.where(done, np.inf, distance).argmin())
            reached = distance[column]
            done[column] = True
            row = row_of[column]
        row_price[new_row] += reached
        paid = done & (row_of >= 0)
        row_price[row_of[paid]] += reached - distance[paid]
        column_price[done] -= reached - distance[done]
        while column >= 0:  # move everyone along the chain
            previous = come_from[column]
            row_of[column] = row_of[previous] if previous >= 0 else new_row
            column = previous
    column_of = np.full(n, -1, np.int64)
    column_of[row_of[row_of >= 0]] = np.flatnonzero(row_of >= 0)
    return column_of
