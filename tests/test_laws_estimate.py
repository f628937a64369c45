"""The solver against reference implementations, and its pieces against closed forms."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from pipeline.laws import FORMULAS
from pipeline.laws.fitting import estimate
from pipeline.laws.fitting.draws import wild_replicates
from pipeline.laws.fitting.estimate import OBJECTIVES, Objective
from pipeline.laws.fitting.forms import Axis, Logarithm, PowerSum, SoftMaximum
from pipeline.laws.fitting.separable import positive_least_squares, variable_projection


def hoffmann(n: int, noise: float, seed: int = 0, heavy: bool = False) -> pd.DataFrame:
    """Points like those of Hoffmann et al.: the Epoch constants and log-normal or heavy-tailed noise."""
    rng = np.random.default_rng(seed)
    size = np.exp(rng.uniform(np.log(5e7), np.log(1e10), n))
    tokens = size * np.exp(rng.uniform(0, np.log(300), n))
    draw = rng.standard_t(2, n) if heavy else rng.normal(size=n)
    loss = (1.82 + 482 / size**0.348 + 2085 / tokens**0.366) * np.exp(noise * draw)
    return pd.DataFrame({"n_params": size, "n_tokens": tokens, "loss": loss})


def models() -> dict[str, tuple[object, np.ndarray]]:
    rng = np.random.default_rng(1)
    n, d = np.exp(rng.uniform(10, 20, 30)), np.exp(rng.uniform(15, 25, 30))
    d_inf = np.where(np.arange(30) % 7, d, np.inf)
    return {
        "one power": (PowerSum([Axis(n)]), np.array([1.0, 0.3])),
        "power and constant": (PowerSum([None, Axis(n)]), np.array([0.5, 0.2, 0.4])),
        "three terms": (PowerSum([None, Axis(n), Axis(d_inf)]), np.array([0.5, 0.2, 0.4, -0.3, 0.6])),
        "soft maximum": (SoftMaximum(Axis(n), Axis(d_inf)), np.array([1.0, 0.2, 0.9, 0.3])),
        "logarithm": (Logarithm(Axis(n)), np.array([3.0, 0.5])),
    }


@pytest.mark.parametrize("name", models())
def test_derivatives(name: str) -> None:
    model, theta = models()[name]
    m, jacobian = model.derivatives(theta[None])
    assert m == pytest.approx(model.value(theta[None]))
    step = 1e-5
    for k in range(model.p):
        shift = step * np.eye(model.p)[k]
        up, down = (model.value((theta + sign * shift)[None]) for sign in (1, -1))
        assert jacobian[:, k] == pytest.approx((up - down) / (2 * step), abs=1e-8)


@pytest.mark.parametrize("kind", ["huber", "mse_log", "mse"])
def test_minimum_is_that_of_scipy(kind: str) -> None:
    points = hoffmann(60, 0.01)
    law, objective = FORMULAS["chinchilla"], Objective(kind, 1e-3)
    model, y, w = law.model(points), points["loss"].to_numpy(), np.ones((1, 60))
    found = estimate.minimise(model, y, law.starts(model, y, w[0], objective)[:8], w, objective)
    best = found.best()

    def value(theta: np.ndarray) -> float:
        return float(objective.total(estimate.residuals(model, y, theta[None], objective), w)[0])

    reference = optimize.minimize(value, found.theta[best] + 0.02, method="BFGS", options={"gtol": 1e-12})
    polished = optimize.minimize(value, reference.x, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-16})
    assert found.objective[best] <= polished.fun * (1 + 1e-9)
    assert found.theta[best] == pytest.approx(polished.x, rel=2e-3, abs=2e-3)
    assert found.gradient_norm[best] < 1e-13 and found.converged[best]
    assert found.objective == pytest.approx(found.objective[best])  # from every start


def test_least_absolute_deviation_of_a_line_is_the_linear_programme() -> None:
    rng = np.random.default_rng(3)
    n = np.geomspace(1e5, 1e9, 14)
    y = (8.8e13 / n) ** 0.076 * np.exp(0.02 * rng.standard_t(2, 14))
    w = rng.uniform(0.5, 2, 14)
    fit = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": y}), objective="lad", weights=w, n_boot=0)
    x = np.stack([np.ones(14), -np.log(n)], axis=1)
    programme = optimize.linprog(  # min w (u + v), x theta + u - v = ln y
        np.concatenate([np.zeros(2), w, w]),
        A_eq=np.hstack([x, np.eye(14), -np.eye(14)]),
        b_eq=np.log(y),
        bounds=[(None, None)] * 2 + [(0, None)] * 28,
    )
    assert fit.objective == pytest.approx(programme.fun, rel=1e-10)
    assert fit.value("alpha_N") == pytest.approx(programme.x[1], rel=1e-8)
    assert fit.gradient_norm < 1e-10


def test_least_absolute_deviation_of_a_curve_meets_its_conditions() -> None:
    points = hoffmann(80, 0.02, heavy=True)
    fit = FORMULAS["chinchilla"].fit(points, objective="lad", n_boot=0)
    model = FORMULAS["chinchilla"].model(points)
    residual = np.log(points["loss"]) - np.log(fit.predict(n_params=points["n_params"], n_tokens=points["n_tokens"]))
    assert fit.gradient_norm < 1e-9
    assert np.sort(np.abs(residual))[: model.p].max() < 1e-12  # as many points as parameters are met exactly
    near = FORMULAS["chinchilla"].fit(points, objective="huber", delta=1e-7, n_boot=0)
    assert near.objective / 1e-7 == pytest.approx(fit.objective, abs=80 * 1e-7)


def test_least_absolute_deviation_with_few_residuals_at_zero() -> None:
    position = np.arange(1.0, 65)
    rng = np.random.default_rng(5)
    loss = (2.3 + 5.4 * position**-0.62) * np.exp(0.01 * rng.normal(size=64))
    rng.choice([-1.0, 1.0], size=(40, 64))
    weights = rng.multinomial(64, np.ones(64) / 64, size=40)[5].astype(float)  # two residuals at zero, three parameters
    law, objective = FORMULAS["position"], Objective("lad")
    model = law.model(pd.DataFrame({"position": position}))
    start = law.starts(model, loss, weights, objective)[:2]
    found = estimate.minimise(model, loss, start, weights[None], objective)
    assert found.converged.any() and found.objective == pytest.approx(found.objective.min(), rel=1e-5)
    narrow = estimate.minimise(model, loss, start, weights[None], Objective("huber", 1e-6))
    assert found.objective.min() <= narrow.objective.min() / 1e-6 + 64 * 1e-6


def test_separable_solver_agrees_with_many_starts() -> None:
    points = hoffmann(100, 0.01, seed=4)
    law = FORMULAS["chinchilla"]
    model, y, w = law.model(points), points["loss"].to_numpy(), np.ones(100)
    fit = law.fit(points, objective="mse", n_boot=0)
    projected = law.report(model, variable_projection(model, y, w)[None])[0]
    assert projected == pytest.approx(fit.vector, rel=1e-6)


def test_positive_least_squares_is_that_of_scipy() -> None:
    rng = np.random.default_rng(5)
    basis, target, w = rng.normal(size=(40, 3, 12)), rng.normal(size=12), rng.uniform(0.5, 2, 12)
    coefficient, value = positive_least_squares(basis, target, w)
    for k in range(40):
        reference, norm = optimize.nnls((basis[k] * np.sqrt(w)).T, target * np.sqrt(w))
        assert coefficient[k] == pytest.approx(reference, abs=1e-8)
        assert value[k] == pytest.approx(norm**2, rel=1e-8)


def test_grid_of_hoffmann() -> None:
    points = hoffmann(40, 0.01)
    law = FORMULAS["chinchilla"]
    model = law.model(points)
    starts = law.hoffmann_starts(model)
    assert starts.shape == (4500, 5)
    vector = law.report(model, starts)
    assert (
        vector[:, 0].min() == -1 and vector[:, 1].max() == pytest.approx(25) and vector[:, 4].max() == pytest.approx(2)
    )
    y, w, objective = points["loss"].to_numpy(), np.ones((1, 40)), Objective("huber")
    found = estimate.minimise(model, y, starts[::90], w, objective)
    fit = law.fit(points, n_boot=0)
    assert found.objective.min() == pytest.approx(fit.objective, rel=1e-10)
    assert (found.objective < fit.objective * (1 + 1e-7)).sum() >= 25


@pytest.mark.parametrize("kind", OBJECTIVES)
def test_weights_count_points(kind: str) -> None:
    points = hoffmann(30, 0.01)
    times = np.arange(30) % 3 + 1.0
    repeated = points.loc[points.index.repeat(times.astype(int))]
    weighted = FORMULAS["chinchilla"].fit(points, objective=kind, weights=times, n_boot=0)
    runs = [str(k) for k in range(len(repeated))]
    plain = FORMULAS["chinchilla"].fit(repeated.assign(run=runs), objective=kind, n_boot=0)
    assert weighted.objective == pytest.approx(plain.objective, rel=1e-9)
    assert weighted.vector == pytest.approx(plain.vector, rel=1e-6)


def test_objectives_by_hand() -> None:
    r, w = np.array([[0.0005, -0.1, 0.001]]), np.array([[1.0, 2.0, 1.0]])
    assert Objective("huber", 1e-3).total(r, w) == pytest.approx(0.5 * 0.0005**2 + 2e-3 * (0.1 - 0.0005) + 0.5e-6)
    assert Objective("lad").total(r, w) == pytest.approx(0.0005 + 0.2 + 0.001)
    assert Objective("mse_log").total(r, w) == pytest.approx((0.0005**2 + 2 * 0.01 + 1e-6) / 4)


@pytest.mark.parametrize("delta", [1e-4, 1e-2])
def test_weighted_huber_is_what_the_library_is_given(delta: float) -> None:
    rng = np.random.default_rng(9)
    r, w = rng.normal(size=30) * 0.01, rng.uniform(0, 3, 30)
    rho, first, second = estimate.huber_loss((r / delta) ** 2, w)
    assert delta**2 / 2 * rho.sum() == pytest.approx(Objective("huber", delta).total(r, w), rel=1e-12)
    assert first * r == pytest.approx(w * np.clip(r, -delta, delta), rel=1e-12)
    z, step = (r / delta) ** 2, 1e-6
    up, down = (estimate.huber_loss(z * (1 + sign * step), w)[1] for sign in (1, -1))
    smooth = np.abs(z - 1) > 1e-3
    assert second[smooth] == pytest.approx(((up - down) / (2 * step * z))[smooth], abs=1e-8)


def test_held_direction() -> None:
    n = np.geomspace(1e5, 1e9, 9)
    y = 1.7 + 30 / n**0.2
    model = PowerSum([None, Axis(n)])
    theta = np.array([[0.3, 0.5, 0.3 * model.axes[1].scale]])
    found = estimate.minimise(model, y, theta, np.ones((1, 9)), Objective("mse_log"), basis=np.eye(3)[:, :2])
    assert found.theta[0, 2] == theta[0, 2] and found.gradient.shape == (1, 2)
    basis = np.stack([np.ones(9), n**-0.3], axis=1)

    def residual(b: np.ndarray) -> np.ndarray:
        return np.log(y) - np.log(basis @ np.exp(b))

    reference = optimize.least_squares(residual, [0.3, 3.0], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert found.objective[0] == pytest.approx(2 * reference.cost / 9, rel=1e-9)


def test_leverage_is_that_of_the_hat_matrix() -> None:
    rng = np.random.default_rng(6)
    design, residual = rng.normal(size=(12, 3)), rng.normal(size=12)
    runs = np.repeat(np.arange(6), 2)
    corrected, degrees = estimate.leverage_correction(design, runs, residual, correlation=0.0)
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    found = []
    for k in range(3):
        contrast = np.linalg.pinv(design)[k]
        rows = []
        for run in range(6):
            here = runs == run
            value, vector = np.linalg.eigh(np.eye(2) - hat[np.ix_(here, here)])
            root = vector @ np.diag(value**-0.5) @ vector.T
            assert corrected[here] == pytest.approx(root @ residual[here])
            rows.append(contrast[here] @ root @ (np.eye(12) - hat)[here])
        eigenvalue = np.linalg.eigvalsh(np.array(rows) @ np.array(rows).T)
        found.append(eigenvalue.sum() ** 2 / (eigenvalue**2).sum())
    assert degrees == pytest.approx(min(found))


def test_wild_replicates_keep_runs_together() -> None:
    runs = np.array([0, 0, 1, 2, 2])
    draws = wild_replicates(np.zeros(5), np.ones(5), ["a", "b", "c"], runs, 4000, seed=0)
    assert (draws[:, 0] == draws[:, 1]).all() and (draws[:, 3] == draws[:, 4]).all()
    assert draws.mean(0) == pytest.approx(np.zeros(5), abs=0.06) and draws.var(0) == pytest.approx(np.ones(5), abs=0.06)


def test_pairs_draw_runs() -> None:
    runs, w = np.array([0, 0, 1, 2]), np.array([1.0, 2.0, 1.0, 1.0])
    weights, redrawn = estimate.pairs_replicates(runs, w, 500, 0, lambda c: (c[:, [0, 2, 3]] > 0).sum(1) > 1)
    assert weights.shape == (500, 4) and redrawn > 0
    assert (weights[:, 1] == 2 * weights[:, 0]).all()  # both points of a run come together
    assert ((weights[:, 0] + weights[:, 2] + weights[:, 3]) == 3).all()
    assert ((weights[:, [0, 2, 3]] > 0).sum(1) > 1).all()


@pytest.mark.parametrize("bootstrap", ["wild", "pairs"])
def test_interval_does_not_shrink_with_checkpoints_of_a_run(bootstrap: str) -> None:
    rng = np.random.default_rng(7)
    n = np.geomspace(1e5, 1e9, 12)
    loss = (8.8e13 / n) ** 0.076 * np.exp(0.02 * rng.normal(size=12))
    once = pd.DataFrame({"n_params": n, "loss": loss, "run": [f"r{i}" for i in range(12)]})
    often = pd.concat([once.assign(n_params=n * (1 + 1e-6 * k)) for k in range(20)], ignore_index=True)
    widths = []
    for points in (once, often):
        e = FORMULAS["L_N"].fit(points, bootstrap=bootstrap, seed=1).parameters["alpha_N"]
        widths.append(e.high - e.low)
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_interval_of_a_line_is_nearly_that_of_student() -> None:
    rng = np.random.default_rng(8)
    n = np.geomspace(1e4, 1e9, 60)
    loss = (8.8e13 / n) ** 0.076 * np.exp(0.01 * rng.normal(size=60))
    e = FORMULAS["L_N"].fit(pd.DataFrame({"n_params": n, "loss": loss}), n_boot=4000).parameters["alpha_N"]
    x, y = np.log(n) - np.log(n).mean(), np.log(loss)
    slope = x @ y / (x @ x)
    error = np.sqrt(((y - y.mean() - slope * x) ** 2).sum() / 58 / (x @ x))
    assert (e.high - e.low) / (2 * 2.0017 * error) == pytest.approx(1, abs=0.12)
