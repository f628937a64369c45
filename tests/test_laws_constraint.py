"""Parameters that are fixed or tied: planted points, gradients, and fits against scipy."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from scipy import optimize

from pipeline.errors import UserError
from pipeline.laws import FORMULAS, load_fit
from pipeline.laws.command.cli import main
from pipeline.laws.fitting.constraint import hold

N, D = (g.ravel() for g in np.meshgrid(np.geomspace(5e7, 1e10, 6), np.geomspace(1e9, 1e12, 6)))
NOISE = np.exp(0.005 * np.random.default_rng(3).normal(size=36))
TIED = pd.DataFrame({"n_params": N, "n_tokens": D, "loss": 1.69 + 406.4 / N**0.34 + 910.7 / D**0.34})
NOISY = TIED.assign(loss=TIED["loss"] * NOISE)
SIZES = np.geomspace(1e5, 1e9, 9)
BOTH = pd.DataFrame({"n_params": N, "n_tokens": D, "loss": ((6.4e13 / N) ** (0.076 / 0.103) + 1.8e13 / D) ** 0.103})


@pytest.mark.parametrize(
    ("law", "points", "options", "truth"),
    [
        ("chinchilla", TIED, {"tie": {"alpha": "beta"}}, {"E": 1.69, "A": 406.4, "B": 910.7, "alpha": 0.34}),
        ("chinchilla", TIED, {"fix": {"E": 1.69}}, {"E": 1.69, "A": 406.4, "B": 910.7, "beta": 0.34}),
        ("chinchilla", TIED, {"fix": {"A": 406.4, "alpha": 0.34}}, {"E": 1.69, "B": 910.7, "beta": 0.34}),
        ("chinchilla", TIED, {"tie": {"B": "2.240895669*A"}}, {"A": 406.4, "B": 910.7, "beta": 0.34}),
        ("L_N_D", BOTH, {"fix": {"N_c": 6.4e13}}, {"alpha_N": 0.076, "D_c": 1.8e13, "alpha_D": 0.103}),
        ("L_N_D", BOTH, {"tie": {"alpha_D": "1.355263157894737*alpha_N"}}, {"N_c": 6.4e13, "alpha_N": 0.076}),
        ("L_N_D", BOTH, {"fix": {"alpha_D": 0.103, "D_c": 1.8e13}}, {"N_c": 6.4e13, "alpha_N": 0.076}),
    ],
)
def test_planted_truth(law: str, points: pd.DataFrame, options: dict, truth: dict[str, float]) -> None:
    fit = FORMULAS[law].fit(points, "mse_log", n_boot=0, **options)
    assert fit.identified, fit.reason
    assert {name: fit.value(name) for name in truth} == pytest.approx(truth, rel=1e-6)
    assert fit.n_free == len(fit.parameters) - len(options.get("fix", {})) - len(options.get("tie", {}))
    assert all(fit.parameters[name].finding == "fixed" for name in options.get("fix", {}))


def test_reciprocal_and_referenced_exponents_are_fixed_as_they_are_written() -> None:
    loss = np.linspace(3, 9, 8)
    batch = pd.DataFrame({"loss": loss, "b_crit": 2e8 / loss ** (1 / 0.21)})
    fit = FORMULAS["B_crit"].fit(batch, n_boot=0, fix={"alpha_B": 0.21})
    assert fit.value("B_star") == pytest.approx(2e8) and fit.value("alpha_B") == 0.21
    flops = 1e10 * SIZES
    size = pd.DataFrame({"flops": flops, "n_params": 1.3e9 * (flops / 8.64e19) ** 0.73})
    assert FORMULAS["N_opt_min"].fit(size, n_boot=0, fix={"k": 1.3e9}).value("p") == pytest.approx(0.73)
    assert FORMULAS["N_opt_min"].fit(size, n_boot=0, fix={"p": 0.73}).value("k") == pytest.approx(1.3e9)


@pytest.mark.parametrize("fixed", [1.5, 1.69, 1.8])
def test_fixed_constant_is_the_minimum_of_scipy(fixed: float) -> None:
    fit = FORMULAS["chinchilla"].fit(NOISY, "mse_log", fix={"E": fixed}, n_boot=0)

    def residual(p: np.ndarray) -> np.ndarray:
        a, alpha, b, beta = p
        return np.log(NOISY["loss"]) - np.log(fixed + np.exp(a - alpha * np.log(N)) + np.exp(b - beta * np.log(D)))

    start = [np.log(406.4), 0.34, np.log(910.7), 0.34]
    found = optimize.least_squares(residual, start, x_scale="jac", xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert fit.objective == pytest.approx(2 * found.cost / 36, rel=1e-9)
    assert fit.parameters["alpha"].estimate == pytest.approx(found.x[1], rel=1e-5)
    assert fit.parameters["beta"].estimate == pytest.approx(found.x[3], rel=1e-5)
    assert fit.gradient_norm < 1e-12 and fit.converged


@pytest.mark.parametrize("kind", ["mse", "huber"])
def test_tied_fit_is_the_minimum_of_scipy(kind: str) -> None:
    fit = FORMULAS["chinchilla"].fit(NOISY, kind, tie={"alpha": "1.2*beta"}, n_boot=0)

    def total(p: np.ndarray) -> float:
        e, a, b, beta = p
        m = np.exp(e) + np.exp(a - 1.2 * beta * (np.log(N) - 20)) + np.exp(b - beta * (np.log(D) - 24))
        r = np.log(NOISY["loss"]) - np.log(m) if kind == "huber" else NOISY["loss"] - m
        return float(optimize_huber(r)) if kind == "huber" else float(np.mean(r**2))

    start = [0.5, np.log(406.4) - 0.34 * 20, np.log(910.7) - 0.3 * 24, 0.3]
    found = optimize.minimize(
        total, start, method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-15, "maxiter": 9999}
    )
    assert fit.objective <= found.fun * (1 + 1e-9) and fit.objective == pytest.approx(found.fun, rel=1e-4)
    assert fit.parameters["alpha"].estimate == pytest.approx(1.2 * fit.parameters["beta"].estimate, rel=1e-12)


def optimize_huber(r: np.ndarray, delta: float = 1e-3) -> float:
    size = np.abs(r)
    return np.where(size <= delta, size**2 / 2, delta * (size - delta / 2)).sum()


def test_gradient_in_the_free_coordinates() -> None:
    law = FORMULAS["chinchilla"]
    held = hold(law, law.model(TIED), {"E": 1.7}, {"alpha": "1.2*beta"})
    z = np.array([[0.3, -0.2, 0.5]])
    _, jacobian = held.derivatives(z)
    assert held.p == 3 and jacobian.shape == (1, 3, 36)
    for k in range(3):
        up, down = (held.value(z + sign * 1e-5 * np.eye(3)[k]) for sign in (1, -1))
        assert jacobian[:, k] == pytest.approx((up - down) / 2e-5, abs=1e-8)
    vector = law.report(held.model, held.place(z))[0]
    assert np.exp(vector[0]) == pytest.approx(1.7) and vector[3] == pytest.approx(1.2 * vector[4])


def test_intervals_and_degrees_of_freedom_are_those_of_what_is_free() -> None:
    points = pd.DataFrame({"n_params": SIZES, "loss": (8.8e13 / SIZES) ** 0.076 * NOISE[:9]})
    fit = FORMULAS["L_N"].fit(points, fix={"alpha_N": 0.076}, n_boot=400)
    x = np.log(points["loss"]) / 0.076 + np.log(SIZES)  # ln N_c of each point
    assert np.log(fit.value("N_c")) == pytest.approx(x.mean())
    assert fit.bootstrap["degrees_of_freedom"] == pytest.approx(8)
    half = 2.306 * x.std(ddof=1) / 3
    one = fit.parameters["N_c"]
    assert np.log(one.high / one.low) / (2 * half) == pytest.approx(1, abs=0.15)
    exponent = fit.parameters["alpha_N"]
    assert (exponent.estimate, exponent.low, exponent.high, exponent.finding) == (0.076, None, None, "fixed")
    assert np.ptp(fit.draws[:, 1]) == 0


def test_a_coefficient_of_0_leaves_its_term_out() -> None:
    points = pd.DataFrame({"n_params": SIZES, "loss": (8.8e13 / SIZES) ** 0.076 * NOISE[:9]})
    bare = FORMULAS["L_N"].fit(points, n_boot=40)
    fit = FORMULAS["power_plus_constant"].fit(points, "mse_log", fix={"E": 0}, n_boot=40)
    assert fit.identified and fit.parameters["E"].estimate == 0 and fit.formula().startswith("L = ")
    assert fit.parameters["alpha"].estimate == pytest.approx(bare.value("alpha_N"), rel=1e-9)
    assert fit.parameters["alpha"].low == pytest.approx(bare.parameters["alpha_N"].low, rel=1e-6)
    assert fit.predict(x=1e7) == pytest.approx(bare.predict(n_params=1e7), rel=1e-9)


def test_a_tie_to_the_exponent_of_a_term_that_is_left_out_says_nothing() -> None:
    fit = FORMULAS["chinchilla"].fit(TIED, n_boot=0, fix={"A": 0}, tie={"alpha": "beta"})
    alone = FORMULAS["chinchilla"].fit(TIED, n_boot=0, fix={"A": 0})
    assert fit.objective == pytest.approx(alone.objective) and fit.parameters["A"].estimate == 0


def test_one_data_size_is_enough_where_the_data_term_is_known() -> None:
    points = TIED[TIED["n_tokens"] == TIED["n_tokens"].min()]
    fit = FORMULAS["chinchilla"].fit(points, n_boot=0, fix={"B": 910.7, "beta": 0.34})
    assert fit.found and fit.parameters["E"].estimate == pytest.approx(1.69, rel=1e-5)
    assert not FORMULAS["chinchilla"].fit(points, n_boot=0, fix={"beta": 0.34}).found


@pytest.mark.parametrize(
    ("law", "options", "message"),
    [
        ("chinchilla", {"fix": {"F": 1.0}}, "--fix F=1.0: 'F' is not a parameter of chinchilla; it has E, A, B, alpha"),
        ("chinchilla", {"fix": {"E": -1.0}}, "--fix E=-1: a positive number is needed or 0"),
        ("chinchilla", {"fix": {"alpha": 0.0}}, "--fix alpha=0: a positive number is needed"),
        ("L_N", {"fix": {"N_c": 0.0}}, "--fix N_c=0: a positive number is needed"),
        ("chinchilla", {"fix": {"E": np.inf}}, "--fix E=inf"),
        ("chinchilla", {"tie": {"alpha": "E"}}, "two exponents, or two coefficients, can be tied"),
        ("L_N_D", {"tie": {"N_c": "D_c"}}, "two exponents, or two coefficients, can be tied"),
        ("chinchilla", {"tie": {"alpha": "alpha"}}, "of two parameters"),
        ("chinchilla", {"tie": {"alpha": "x*beta"}}, "'x' is not a number"),
        ("chinchilla", {"tie": {"alpha": "-1*beta"}}, "NAME=NUMBER"),
        ("chinchilla", {"tie": {"A": "B"}, "fix": {"A": 0.0}}, "fixed at 0 is left out"),
        ("chinchilla", {"tie": {"alpha": "beta", "beta": "alpha"}}, "contradict or repeat each other"),
        ("L_N", {"fix": {"N_c": 1e13, "alpha_N": 0.07}}, "leave nothing to fit"),
        ("isoflop", {"fix": {"a": 0.5}}, "isoflop: its parameters can't be fixed or tied"),
    ],
)
def test_conditions_that_can_not_be(law: str, options: dict, message: str) -> None:
    with pytest.raises(UserError) as error:
        FORMULAS[law].fit(BOTH.assign(flops=6 * N * D), n_boot=0, **options)
    assert message in str(error.value)


def test_the_command_fixes_and_ties(tmp_path, capsys) -> None:
    path, out = tmp_path / "points.csv", tmp_path / "fit.json"
    NOISY.to_csv(path, index=False)
    command = ["fit", "chinchilla", str(path), "--n-boot", "39", "--objective", "mse", "--out", str(out)]
    assert main([*command, "--fix", "E=1.69", "--tie", "alpha=beta"]) == 0
    assert "fixed" in capsys.readouterr().out
    record = json.loads(out.read_text())
    assert record["fixed"] == {"E": 1.69} and record["tied"] == {"alpha": "beta"}
    fit = load_fit(out)
    assert fit.value("alpha") == pytest.approx(fit.value("beta"), rel=1e-12) and fit.n_free == 3
    assert main(["predict", str(out), "--n-params", "1e9", "--n-tokens", "1e11"]) == 0
    capsys.readouterr()
    for options, words in (
        (["--fix", "E"], "--fix 'E': NAME=NUMBER is needed"),
        (["--fix", "E=1", "--fix", "E=2"], "E is already 1"),
        (["--tie", "alpha"], "--tie 'alpha': NAME=NAME"),
        (["--tie", "alpha=gamma"], "'gamma' is not a parameter of chinchilla"),
    ):
        assert main([*command, *options]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("objective", ["mse", "mse_log", "huber", "lad"])
def test_the_law_of_gadre_is_found(objective: str) -> None:
    c, m = 6 * N * D, D / N
    points = TIED.assign(loss=1.8 + (60 * m**0.14 + 90 * m**-0.14) * c**-0.14)
    fit = FORMULAS["gadre"].fit(points, objective, n_boot=0)
    assert fit.identified and fit.n_free == 4
    assert {name: fit.value(name) for name in ("E", "a", "b", "eta")} == pytest.approx(
        {"E": 1.8, "a": 60, "b": 90, "eta": 0.14}, rel=1e-6
    )
    assert fit.formula() == "L = 1.8 + (60 M^0.14 + 90 M^-0.14) C^-0.14"
    assert fit.predict(n_params=1e9, n_tokens=2e10) == pytest.approx(
        1.8 + (60 * 20**0.14 + 90 * 20**-0.14) * 1.2e20**-0.14, rel=1e-9
    )


def test_the_law_of_gadre_is_chinchilla_with_one_exponent() -> None:
    tied = FORMULAS["chinchilla"].fit(NOISY, "mse", tie={"alpha": "beta"}, n_boot=0)
    fit = FORMULAS["gadre"].fit(NOISY, n_boot=0)
    assert fit.objective == pytest.approx(tied.objective, rel=1e-9)
    assert 2 * fit.value("eta") == pytest.approx(tied.value("alpha"), rel=1e-6)
    assert fit.value("a") == pytest.approx(tied.value("A") * 6 ** fit.value("eta"), rel=1e-6)
