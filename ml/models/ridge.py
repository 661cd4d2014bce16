"""Ridge regression whose predictions for rows left out follow in closed form from one factorisation."""

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, qr, solve_triangular

Floats = NDArray[np.float32]


class Ridge:
    """Ridge regressions of any targets on the same rows.

    With the hat matrix H and targets T, leaving group g out turns its residuals into (I - H_gg)^-1 (T - HT)_g.

    Attributes:
        rows: float32 [N, K]; `gram` is rows.T @ rows.
        groups: rows of one group share a number [N]; they are left out together.
        penalty: added to the diagonal of the Gram matrix.
    """

    def __init__(self, rows: Floats, gram: Floats, groups: NDArray[np.integer], penalty: float) -> None:
        self.groups = groups
        self._factor = cholesky(gram + penalty * np.eye(len(gram), dtype=np.float32), lower=True, check_finite=False)
        self._half = solve_triangular(self._factor, rows.T, lower=True, check_finite=False)  # H = half.T @ half

    def fit(self, targets: Floats) -> tuple[Floats, Floats]:
        """Coefficients [K, C] for `targets` [N, C], and each row's prediction by a fit without its group [N, C]."""
        half = self._half
        projected = half @ targets
        residuals = targets - half.T @ projected
        left_out = residuals / (1 - np.einsum("dn,dn->n", half, half))[:, None]
        for members in _several(self.groups):
            block = half[:, members]
            left_out[members] = np.linalg.solve(np.eye(len(members)) - block.T @ block, residuals[members])
        return self._coefficients(projected), targets - left_out

    def fit_without(self, inside: NDArray[np.bool_], targets: Floats) -> tuple[Floats, Floats]:
        """What `fit` gives for the M rows that aren't `inside` [N] and their `targets` [M, C].

        Leaving rows out is the same as giving them what the others predict for them as targets, and with M of the rows
        the hat matrix is H_MM + H_MS (I - H_SS)^-1 H_SM, S being the rows left out.
        """
        half, rest = self._half, np.flatnonzero(~inside)
        hat = half[:, inside].T @ half
        predicting = np.linalg.solve(np.eye(len(hat), dtype=np.float32) - hat[:, inside], hat[:, rest])
        completed = np.empty((len(inside), targets.shape[1]), np.float32)
        completed[rest], completed[inside] = targets, predicting @ targets
        projected = half @ completed
        residuals = targets - (half.T @ projected)[rest]
        leverages = np.einsum("dn,dn->n", half, half)[rest] + np.einsum("kn,kn->n", hat[:, rest], predicting)
        left_out = residuals / (1 - leverages)[:, None]
        for members in _several(self.groups[rest]):
            places = rest[members]
            block = half[:, places].T @ half[:, places] + hat[:, places].T @ predicting[:, members]
            left_out[members] = np.linalg.solve(np.eye(len(members)) - block, residuals[members])
        return self._coefficients(projected), targets - left_out

    def _coefficients(self, projected: Floats) -> Floats:
        coefficients: Floats = solve_triangular(self._factor, projected, lower=True, trans="T", check_finite=False)
        return coefficients


def fewest_coordinates(rows: Floats) -> tuple[Floats, Floats | None]:
    """Rows [N, D] in an orthonormal basis of their span if N < D: ridge gives the same there, for much less."""
    if len(rows) >= rows.shape[1]:
        return rows, None
    basis, triangle = qr(rows.T, mode="economic")
    return np.ascontiguousarray(triangle.T), basis


def _several(groups: NDArray[np.integer]) -> list[NDArray[np.intp]]:
    """The rows of every group that has more than one."""
    order = np.argsort(groups, kind="stable")
    runs = np.split(order, np.flatnonzero(np.diff(groups[order])) + 1)
    return [run for run in runs if len(run) > 1]
