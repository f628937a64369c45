"""The critical batch size, measured from one model trained at several batch sizes.

At a fixed loss, the steps S and the tokens E = B S that a batch size B needs lie on a hyperbola (Eq 5.1),

    (S / S_min - 1) (E / E_min - 1) = 1,   that is   S = S_min + E_min / B,

and B_crit = E_min / S_min (Eq 5.2): at that batch twice the fewest steps and twice the fewest tokens are needed.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from scipy.optimize import least_squares
from scipy.stats import t as student

LEVELS = 10
"""Loss levels, evenly spaced in ln L over what the batch sizes reach."""
LEAST_BATCHES = 4
"""Batch sizes that must reach a loss level for the level to count."""
WIDEST = 2.0
"""Standard error of ln B_crit beyond which B_crit is not identified: a factor of e^2 either way."""
BEYOND = 4.0
"""B_crit further than this factor outside the batch sizes tried is not identified: all of them lie on one side."""


def loss_levels(batches: pd.DataFrame) -> np.ndarray:
    """Return loss levels, decreasing, that at least `LEAST_BATCHES` batch sizes of some model pass after their warmup.

    Parameters
    ----------
    batches : DataFrame
        One row a (run, evaluation): run, n_params, batch_tokens, step, warmup_steps, loss.

    Returns
    -------
    ndarray of shape (LEVELS,), or empty when there is no such loss
    """
    curves = [_curve(rows) for _, rows in batches.groupby("run")]
    tops: dict[float, list[float]] = {}
    ends: dict[float, list[float]] = {}
    for curve in curves:
        if len(curve) > 1:
            tops.setdefault(curve.n_params.iloc[0], []).append(curve.loss.iloc[0])
            ends.setdefault(curve.n_params.iloc[0], []).append(curve.loss.iloc[-1])
    spans = [
        (sorted(tops[size])[-LEAST_BATCHES], sorted(ends[size])[LEAST_BATCHES - 1])
        for size in tops
        if len(tops[size]) >= LEAST_BATCHES
    ]
    if not spans:
        return np.array([])
    high, low = max(top for top, _ in spans), min(end for _, end in spans)
    return np.geomspace(high, low, LEVELS) if low < high else np.array([])


def scan_points(batches: pd.DataFrame, levels: np.ndarray) -> pd.DataFrame:
    """Return the steps and tokens that each run needed to reach each loss level, interpolated in ln S.

    Parameters
    ----------
    batches : DataFrame
        As for `loss_levels`.
    levels : ndarray of shape (n_levels,)
        Losses, nats per token.

    Returns
    -------
    DataFrame
        One row a (run, level) that was passed after warmup: run, n_params, loss (the level), batch_tokens, steps,
        tokens.
    """
    rows = []
    for run, frame in batches.groupby("run", sort=True):
        curve = _curve(frame)
        if len(curve) < 2:
            continue
        size, batch = float(curve.n_params.iloc[0]), float(curve.batch_tokens.iloc[0])
        loss, steps = curve.loss.to_numpy(), np.log(curve.step.to_numpy(dtype=float))
        for level in levels:
            if loss[-1] <= level <= loss[0]:
                needed = math.exp(np.interp(-level, -loss, steps))
                rows.append((run, size, float(level), batch, needed, needed * batch))
    return pd.DataFrame(rows, columns=["run", "n_params", "loss", "batch_tokens", "steps", "tokens"])


def _curve(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one run's rows after warmup at which its test loss is lower than ever before."""
    rows = rows.sort_values("step")
    rows = rows[(rows.step > rows.warmup_steps) & (rows.step > 0) & rows.loss.notna()]
    return rows[rows.loss < rows.loss.cummin().shift(fill_value=np.inf)]


def fit_levels(points: pd.DataFrame) -> pd.DataFrame:
    """Fit the hyperbola Eq 5.1 to each model and loss level, by least squares on ln S.

    Returns
    -------
    DataFrame
        One row a (n_params, loss): s_min (steps), e_min (tokens), b_crit (tokens), low and high (95 % interval of
        b_crit, from the curvature at the optimum and Student's t), n (batch sizes), identified, reason. Numbers are NaN
        where b_crit is not identified.

    Examples
    --------
    >>> batch = np.array([128.0, 512.0, 2048.0, 8192.0, 32768.0])
    >>> points = pd.DataFrame({"n_params": 1e5, "loss": 4.0, "batch_tokens": batch, "steps": 500 * (1 + 4096 / batch)})
    >>> fit_levels(points)[["s_min", "e_min", "b_crit"]].round(3).values.tolist()
    [[500.0, 2048000.0, 4096.0]]
    """
    rows = []
    for (size, level), group in points.groupby(["n_params", "loss"], sort=True):
        rows.append(
            {"n_params": size, "loss": level, **_hyperbola(group.batch_tokens.to_numpy(), group.steps.to_numpy())}
        )
    columns = ["n_params", "loss", "s_min", "e_min", "b_crit", "low", "high", "n", "identified", "reason"]
    return pd.DataFrame(rows, columns=columns)


def _hyperbola(batch: np.ndarray, steps: np.ndarray) -> dict[str, object]:
    """Fit ln S = ln(S_min + E_min / B); parameters are (ln S_min, ln B_crit)."""
    n = len(np.unique(batch))
    nothing = dict.fromkeys(("s_min", "e_min", "b_crit", "low", "high"), math.nan)
    if n < LEAST_BATCHES:
        return nothing | {
            "n": n,
            "identified": False,
            "reason": f"{n} batch sizes reach it, {LEAST_BATCHES} are needed",
        }

    def residuals(theta: np.ndarray) -> np.ndarray:
        return theta[0] + np.logaddexp(0.0, theta[1] - np.log(batch)) - np.log(steps)

    def jacobian(theta: np.ndarray) -> np.ndarray:
        share = 1 / (1 + batch * np.exp(-theta[1]))
        return np.column_stack([np.ones_like(batch), share])

    starts = [np.array([np.log(steps.min()) - 0.5, np.log(place)]) for place in np.unique(batch)]
    fits = [least_squares(residuals, start, jacobian, method="lm", xtol=1e-12, ftol=1e-12) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    s_min, b_crit = np.exp(best.x)
    normal = best.jac.T @ best.jac
    freedom = len(steps) - 2
    spread = math.inf
    if np.linalg.cond(normal) < 1e12:
        # Steps read off a curve are never exact: one per cent at least, so that few points can't look perfect.
        variance = max(2 * best.cost / freedom, 1e-4)
        spread = math.sqrt(variance * np.linalg.inv(normal)[1, 1])
    reason = None
    if spread > WIDEST:
        reason = "the batch sizes tried do not bend: B_crit is known to a factor of more than e^2 only"
    elif not batch.min() / BEYOND <= b_crit <= batch.max() * BEYOND:
        reason = "B_crit lies outside the batch sizes tried: all of them are on one side"
    if reason:
        return nothing | {"n": n, "identified": False, "reason": reason}
    width = student.ppf(0.975, freedom) * spread
    return {
        "s_min": s_min,
        "e_min": s_min * b_crit,
        "b_crit": b_crit,
        "low": b_crit * math.exp(-width),
        "high": b_crit * math.exp(width),
        "n": n,
        "identified": True,
        "reason": None,
    }
