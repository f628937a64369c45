"""Simulated worlds: their equations, their tables, and the verdicts that the paper's claims get there."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from generous import CONFIG
from test_report import config
from test_workflow import planned, snakemake

from pipeline.analysis.chain import FrontierSearch, estimated
from pipeline.analysis.gather import gather
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.points import after_warmup, curves_at_fixed_batch, ends
from pipeline.claims import CLAIMS
from pipeline.claims.price import factor, price
from pipeline.claims.verdict import FAILS, HOLDS, OPEN, OUT_OF_REACH, VERDICTS
from pipeline.errors import UserError
from pipeline.files import read_json
from pipeline.laws.algebra.efficiency import minimum_steps, stop_bound
from pipeline.plan import catalog
from pipeline.plan.counts import count
from pipeline.plan.run import SCHEDULES, Run
from pipeline.plan.sweeps import Member
from pipeline.power.__main__ import main
from pipeline.power.cases import CASES, RIGHT, WRONG, Case
from pipeline.power.context import Context
from pipeline.power.design import Design, sections
from pipeline.power.scales import KNOWN, scales
from pipeline.power.schedule import Schedule, rates
from pipeline.power.shape import FIGURE_5
from pipeline.power.simulate import Laboratory, outcomes, world_of
from pipeline.power.tables import EvaluationTable, SweepTable, evaluations_made
from pipeline.power.world import EXPONENTS, World
from pipeline.tables import power
from pipeline.train.evaluate import main as evaluate
from pipeline.train.optim import rate_at_step

QUIET = {
    "noise.between": 1e-3,
    "noise.within": 1e-6,
    "noise.text": 0.02,
    "noise.corpus": 1e-5,
    "noise.scale_spread": 0.01,
}
"""Errors so small that only the truth of a world and the design of its runs decide."""
DRAWS = 99
WORLD = World.of_paper(1024, 128)


def run(**changes) -> Run:
    shape = {"n_layer": 2, "d_model": 64, "n_head": 2, "n_vocab": 1024}
    return Run(
        **{"tokens": "t", "n_steps": 8000, "batch_sequences": 8, "lr": 0.01, "warmup_steps": 100} | shape | changes
    )


@cache
def generous() -> Design:
    return Design.of(CONFIG)


def quiet(case: Case) -> Inputs:
    """Return one experiment of the generous design in a world, almost without errors."""
    world = world_of(replace(case, constants=QUIET | dict(case.constants)), generous())
    return Laboratory(world, generous(), DRAWS).experiment(0)


# Verdicts


@pytest.mark.slow
def test_where_the_paper_is_right_every_claim_holds():
    given = quiet(CASES["paper"])
    found = {claim.number: claim.decide(given) for claim in CLAIMS}
    assert {number: verdict.reason for number, verdict in found.items() if verdict.verdict != HOLDS} == {}


@pytest.mark.slow
def test_what_a_cooldown_gains_turns_no_claim():
    given = quiet(CASES["annealing"])
    assert {claim.number for claim in CLAIMS if claim.decide(given).verdict != HOLDS} == set()


QUICK = ("claim08_size", "claim17_slower", "claim19_kinds", "claim20_spread")


@pytest.mark.parametrize(
    "case", [pytest.param(case, id=case.name, marks=[pytest.mark.slow] * (case.name not in QUICK)) for case in WRONG]
)
def test_where_a_claim_is_wrong_it_does_not_hold(case):
    given = quiet(case)
    (claim,) = (claim for claim in CLAIMS if claim.number == case.claim)
    found = claim.decide(given)
    assert found.verdict == FAILS, found.reason


def test_every_claim_has_a_world_in_which_it_is_wrong():
    assert {case.claim for case in WRONG} == {claim.number for claim in CLAIMS}
    assert all(case.claim is None for case in RIGHT)
    assert len(CASES) == len(RIGHT) + len(WRONG)
    assert all(case.what and case.why for case in CASES.values())


def test_the_exponents_of_the_world_of_the_paper_are_within_a_tenth_or_so_of_its_own():
    paper = {"alpha_N": 0.076, "alpha_S": 0.76, "alpha_B": 0.21, "alpha_D": 0.095}
    for name, value in EXPONENTS.items():
        assert value == pytest.approx(paper[name], rel=0.13)
    laws = WORLD.laws
    assert laws.alpha_C / laws.alpha_N == pytest.approx(0.73, abs=0.03)
    assert laws.excess == pytest.approx(0.10, rel=0.05)
    assert laws.alpha_N / WORLD.overfitting.alpha_D == pytest.approx(0.74, abs=0.01)


@cache
def small() -> Design:
    """The test preset's design."""
    return Design.of(config("test"))


def test_the_same_seed_gives_the_same_verdicts_and_another_one_other_numbers():
    case = CASES["claim20_spread"]
    first, again, other = (outcomes(case, small(), 2, seed, DRAWS) for seed in (3, 3, 4))
    assert first == again
    assert first["claims"]["20"]["checks"] != other["claims"]["20"]["checks"]
    json.dumps(first, allow_nan=False)


def test_only_what_a_claim_reads_is_made():
    laboratory = Laboratory(WORLD, small(), DRAWS)
    given = laboratory.experiment(0)
    for claim in CLAIMS:
        if claim.number in (4, 19, 20):
            claim.decide(given)
    assert set(given.laws.made) == {"L_N"}
    assert not given.evaluations.made
    assert set(given.laws) == set(catalog.all_laws([catalog.TABLES["claims"]]))


def test_verdicts_are_counted_and_a_wrong_world_is_asked_for_its_own_claim():
    found = outcomes(CASES["claim08_size"], small(), 2, 0, DRAWS)
    assert list(found["claims"]) == ["8"]
    assert set(found["claims"]["8"]["verdicts"]) == set(VERDICTS)
    assert sum(found["claims"]["8"]["verdicts"].values()) == 2
    for check in found["claims"]["8"]["checks"]:
        assert check["met"] + check["failed"] + check["open"] == 2


# The tables


@pytest.fixture
def trained(tiny_run, train, tiny_tokens, tmp_path):
    """A real run with everything measured, in a folder as the workflow has it, and its design."""
    real = tiny_run(snapshots=2, noise=True)
    folder = train(real, folder=f"runs/{real.id}")
    options = ["--run", real.to_json(), "--tokens", str(tiny_tokens), "--weights", str(folder), "--device", "cpu"]
    assert evaluate([*options, "--tokens-per-corpus", "512", "--output", str(folder / "evaluation.parquet")]) == 0
    return real, folder.parent


@pytest.mark.parametrize("evaluations", [False, True])
def test_a_simulated_table_has_the_columns_of_a_real_one(evaluations, trained):
    real, runs = trained
    measured = gather("sizes", {real.id: ("aspect", True)}, runs, 60_000, evaluations)
    measured["entropy_rate"] = float("nan")  # as the command does it
    members, world = [Member(real, "aspect", True)], World.of_paper(real.n_vocab, real.n_ctx)
    if evaluations:
        windows = dict.fromkeys(("train", "test", "other"), 512)
        simulated = EvaluationTable(world, "sizes", members, 60_000, windows).measured(0)
    else:
        simulated = SweepTable(world, "sizes", members, 60_000).measured(0)
    assert list(simulated) == list(measured)
    assert simulated.dtypes.astype(str).to_dict() == measured.dtypes.astype(str).to_dict()
    free = ["loss", "train_loss", "noise_scale", "gradient_norm", "lr_sum", "best", "corpus"]
    same = [name for name in measured if name not in free]
    pd.testing.assert_frame_equal(simulated[same], measured[same])
    assert simulated["loss"].notna().all()
    if not evaluations:
        assert (simulated["noise_scale"].notna() == (simulated["step"] > 0)).all()  # a real one may be negative: NaN
        assert simulated["lr_sum"].to_numpy() == pytest.approx(measured["lr_sum"].to_numpy())


def test_a_run_is_alike_in_every_sweep_and_its_evaluation_is_its_curve():
    shared = run(snapshots=3)
    others = [Member(run(seed=seed)) for seed in (1, 2)]
    one, other = (
        SweepTable(WORLD, "s", members, 10**9).measured(5) for members in ([Member(shared), *others], [Member(shared)])
    )
    pd.testing.assert_frame_equal(one[one["run"] == shared.id].reset_index(drop=True), other)
    windows = {"train": 4096, "test": 4096, "books": 4096}
    evaluated = EvaluationTable(WORLD, "s", [Member(shared)], 10**9, windows).measured(5)
    last = evaluated[evaluated["final"] & (evaluated["corpus"] == "test")]
    assert last["loss"].mean() == pytest.approx(other["loss"].iloc[-1], rel=2e-3)
    assert evaluated["step"].nunique() == 4


def test_errors_have_the_size_that_they_say():
    world = WORLD.changed({"noise.within": 0.0})
    members = [Member(run(seed=seed)) for seed in range(400)]
    table = SweepTable(world, "s", members, 10**9).measured(0)
    finals = table[table["final"]]["loss"]
    assert finals.std() == pytest.approx(world.noise.between, rel=0.1)
    wobbling = WORLD.changed({"noise.between": 0.0, "noise.within": 0.01})
    table = SweepTable(wobbling, "s", members, 10**9)
    off = np.log(table.measured(0)["loss"] / table.table["loss"]).to_numpy().reshape(400, -1)[:, 1:]
    assert off.std() == pytest.approx(0.01, rel=0.05)
    together = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairwise(off.T)])
    assert together == pytest.approx(wobbling.noise.memory, abs=0.05)


def test_runs_of_one_trunk_are_the_same_up_to_where_they_branch_off():
    short, long, other = (
        Member(run(schedule="wsd", n_steps=steps, seed=seed)) for steps, seed in ((4000, 0), (8000, 0), (8000, 1))
    )
    table = SweepTable(WORLD, "s", [short, long, other], 10**9).measured(0)
    curves = [table[table["run"] == one.run.id].set_index("step")["loss"] for one in (short, long, other)]
    trunk = [step for step in curves[0].index if step in curves[1].index and step <= short.run.branch_point]
    assert len(trunk) > 10
    assert curves[0][trunk].tolist() == curves[1][trunk].tolist()
    assert (curves[1][trunk[1:]] != curves[2][trunk[1:]]).all()
    both = SweepTable(WORLD, "s", [short, long], 10**9)
    off = [np.log(both.measured(seed)["loss"] / both.table["loss"]) for seed in range(200)]
    ends = [one[both.table["final"]].tolist() for one in off]
    assert 0.9 < np.corrcoef(np.transpose(ends))[0, 1] < 0.999


def test_more_lengths_of_a_trunk_are_no_more_runs():
    """What rests on the curves, the ends and the seeds of the sizes is that of the longest run of each trunk."""
    design = small()
    trunks = [
        Member(replace(one.run, schedule="wsd", n_steps=steps, warmup_steps=20, snapshots=0), one.label, one.fitted)
        for one in design.sweeps["sizes"]
        for steps in (600, 1200)
    ]
    given = {}
    for name, members in (("both", trunks), ("long", trunks[1::2])):
        laboratory = Laboratory(WORLD, replace(design, sweeps=dict(design.sweeps) | {"sizes": members}), DRAWS)
        given[name] = laboratory.experiment(0)
    pd.testing.assert_frame_equal(*(ends(one).reset_index(drop=True) for one in given.values()))
    pd.testing.assert_frame_equal(*(curves_at_fixed_batch(one).reset_index(drop=True) for one in given.values()))
    for number in (1, 17, 18, 20):
        (claim,) = (claim for claim in CLAIMS if claim.number == number)
        assert claim.decide(given["both"]).reason == claim.decide(given["long"]).reason


def test_two_models_share_the_noise_of_the_windows_they_read():
    members = [Member(run(seed=seed)) for seed in range(20)]
    table = EvaluationTable(WORLD, "s", members, 10**9, {"train": 1280, "test": 1280})
    off = np.log(table.measured(0)["loss"] / table.table["loss"]).to_numpy().reshape(20, 2, 128)[:, 1]
    off = off - off.mean(-1, keepdims=True)
    assert off.std() == pytest.approx(WORLD.noise.text / math.sqrt(10), rel=0.15)
    assert np.corrcoef(off)[np.triu_indices(20, 1)].mean() == pytest.approx(WORLD.noise.alike, abs=0.05)


def test_a_run_with_patience_ends_after_its_turn():
    limited = run(n_unique_tokens=100_000, evaluate_every=50, patience=10, n_steps=40_000)
    table = SweepTable(WORLD, "s", [Member(limited)], 10**9).measured(None)
    best = table[table["best"]].iloc[0]
    assert best["step"] < table["step"].max() <= best["step"] + 11 * 50
    assert set(table["status"]) == {"stopped"}
    assert table["final"].sum() == table["best"].sum() == 1
    endless = replace(limited, patience=0)
    steps = np.arange(5)
    assert evaluations_made(endless, steps, np.ones(5)) == 5


# The mechanisms


def test_few_data_have_their_least_loss_where_eq_1_5_says_and_above_the_bound_of_eq_5_7():
    limited = run(n_unique_tokens=100_000, n_steps=100_000, evaluations=4000)
    losses, laws = WORLD.losses(limited), WORLD.laws
    steps = np.array(SweepTable(WORLD, "s", [Member(limited)], 10**9).table["step"])
    clean = losses.test / (1 + WORLD.shape.cost(limited))
    floor = (laws.N_c / count(limited).n_params) ** laws.alpha_N
    least = WORLD.overfitting.early_stopped(floor, 100_000)
    assert clean.min() == pytest.approx(least, rel=1e-4)
    stopped = minimum_steps(steps[clean.argmin()], limited.batch_tokens, losses.b_crit[clean.argmin()])
    over = stopped / stop_bound(least, floor, laws.S_c, laws.alpha_S)
    assert over == pytest.approx((1 + laws.alpha_S) ** (1 / laws.alpha_S), rel=0.02)
    assert (losses.train <= losses.test + 1e-12).all()


def test_data_that_are_seen_once_do_no_harm():
    fresh, few = (run(n_unique_tokens=n) for n in (10_000_000, 8_000_000))
    assert WORLD.losses(fresh).test == pytest.approx(WORLD.losses(run()).test)
    assert WORLD.losses(few).test[-1] > WORLD.losses(run()).test[-1]


@pytest.mark.parametrize("schedule", ["cosine", "linear", "wsd"])
def test_a_finished_cooldown_ends_alike(schedule):
    world = WORLD.changed({"schedule.annealing": 0.04})
    finished = world.losses(run(schedule=schedule)).test
    assert finished[-1] == pytest.approx(WORLD.losses(run()).test[-1], rel=1e-3)
    constant = world.losses(run(schedule="constant")).test
    assert constant[-1] == pytest.approx(1.04 * finished[-1], rel=1e-3)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_rates_are_those_of_the_run_and_their_sum_is_nearly_so(schedule):
    one = run(schedule=schedule, n_steps=5000, evaluations=9)
    lr, summed = rates(one)
    exact = np.cumsum([rate_at_step(one, step) for step in range(5001)])
    steps = SweepTable(WORLD, "s", [Member(one)], 10**9).table["step"].to_numpy()
    assert lr.tolist() == [rate_at_step(one, int(step)) for step in steps]
    assert summed[2:] == pytest.approx(exact[steps[2:]], rel=0.02, abs=0.02)


def test_shapes_cost_what_figure_5_shows():
    def over(**changes) -> float:
        best = run(n_layer=2, d_model=80, n_head=2, d_ff=160)
        return FIGURE_5.cost(replace(best, **changes)) - FIGURE_5.cost(best)

    assert over(d_ff=8 * 80) == pytest.approx(0.017, abs=0.001)
    assert over(d_ff=40 * 80) == pytest.approx(0.08, abs=0.005)
    assert over(n_layer=16) == pytest.approx(0.02, abs=0.004)
    assert over(n_head=5) < 0.01
    assert FIGURE_5.cost(run(n_layer=1, d_model=512)) > FIGURE_5.cost(run(n_layer=1, d_model=16))


def test_a_context_has_its_mean_and_the_exponent_that_it_says():
    context = Context(n_ctx=256, first=0.7, exponent=0.5, growth=0.1)
    one = run(n_ctx=256)
    losses = context.by_place(np.array(3.0), one, 1e6)
    assert losses.mean() == pytest.approx(3.0)
    assert losses[0] == pytest.approx(0.7 * math.log(1024))
    last = losses[0] - (losses[0] - losses[3]) / (1 - 4**-0.6)
    assert losses[99] - last == pytest.approx((losses[0] - last) * 100**-0.6)


def test_lstms_level_off_and_short_contexts_win_early():
    lstm = run(family="lstm", n_ctx=256)
    context = Context(n_ctx=256)
    ours, theirs = (context.by_place(np.array(3.0), one, 1e5) for one in (lstm, run(n_ctx=256)))
    assert ours[:60] == pytest.approx(theirs[:60])
    assert (ours[60:] == ours[60]).all() and (theirs[60:] < ours[60]).all()
    short = context.by_place(np.array(3.0), run(n_ctx=8), 1e5)
    assert short == pytest.approx(0.97 * theirs[:8])


def test_models_without_layers_hardly_gain_from_width():
    narrow, wide, deep = (
        WORLD.losses(run(n_layer=layers, d_model=width, n_steps=10**6)).test[-1]
        for layers, width in ((0, 64), (0, 256), (2, 64))
    )
    assert deep < wide < narrow < 1.1 * wide


def test_scales_are_those_that_are_known_and_lie_between():
    for vocabulary, known in KNOWN.items():
        assert scales(vocabulary) == known
    assert KNOWN[1024].converged < scales(8000).converged < KNOWN[50_257].converged


def test_another_exponent_turns_a_trend_where_the_scale_is_known():
    steep = World.of_paper(1024, 128, alpha_N=0.2, alpha_D=0.3)
    far = {"steps": 1e12, "batch_tokens": 1e9}
    assert steep.laws.loss_at_batch(1e5, **far) == pytest.approx(WORLD.laws.loss_at_batch(1e5, **far), rel=1e-3)
    assert steep.overfitting.early_stopped(1e-9, 1e6) == pytest.approx(WORLD.overfitting.early_stopped(1e-9, 1e6))


def test_a_constant_that_a_world_does_not_have_is_named():
    for name in ("shape.colour", "colour", "laws.colour.depth"):
        with pytest.raises(UserError, match=f"world: {name} is no constant of it"):
            WORLD.changed({name: 1.0})
    for case in CASES.values():
        assert world_of(case, small()) != WORLD


def test_schedules_differ_only_where_they_are_to():
    one, other = run(schedule="cosine"), run(schedule="linear")
    assert Schedule().factor(one) == pytest.approx(Schedule().factor(other))
    assert Schedule(kinds=0.05).factor(other)[-1] == pytest.approx(1.05)
    assert Schedule(rate=0.02).factor(one, math.e)[-1] == pytest.approx(1.02)


def test_a_replicate_whose_b_crit_vanishes_has_no_frontier():
    laboratory = Laboratory(WORLD, Design.of(config("laptop")), 0)
    given = laboratory.experiment(None)
    search = FrontierSearch(given.laws["N_opt_min"], after_warmup(given), given.laws["B_crit"])
    assert np.isfinite(search.vector(search.log_loss, estimated(given.laws["B_crit"]))).all()
    assert np.isnan(search.vector(search.log_loss, lambda loss: 0 * loss)).all()


# What would decide


def test_an_interval_halves_with_four_times_the_runs():
    assert factor(0.5, 0.1, 0.7, 0.0, 1.0) == 1.0  # inside already
    assert factor(0.9, 0.8, 1.1, 0.0, 1.0) == pytest.approx(4.0)
    assert factor(0.9, 0.8, 1.1, -math.inf, 1.0) == pytest.approx(4.0)
    assert factor(-0.1, -0.3, 0.1, 0.0, 1.0) == pytest.approx(4.0)
    assert factor(1.0, 0.8, 1.1, 0.0, 1.0) == math.inf


def test_a_price_names_runs_and_core_minutes():
    table = SweepTable(WORLD, "sizes", [Member(run(seed=seed)) for seed in range(4)], 10**9).table
    seconds, words = price("exponent", 2.5, {"sizes": table})
    assert words.startswith("about 6 more runs like those of sizes (") and words.endswith(" core-minutes): exponent")
    assert 1 < seconds < 3600
    assert price("exponent", 1e4, {"sizes": table})[0] == math.inf


def test_every_open_claim_says_what_would_decide_it():
    given = Laboratory(WORLD, small(), DRAWS).experiment(0)
    found = [claim.decide(given) for claim in CLAIMS]
    assert Counter(verdict.verdict for verdict in found)[OPEN] > 5
    for verdict in found:
        assert bool(verdict.price) == (verdict.verdict == OPEN), verdict
    assert any("core-minutes" in verdict.price for verdict in found)


# The table and the rule


def case_file(name: str, experiments: int, **verdicts: dict[str, int]) -> dict:
    """Return what a case's file holds, from claim -> verdict -> experiments."""
    claims = {
        number.removeprefix("claim"): {
            "verdicts": dict.fromkeys(VERDICTS, 0) | counts,
            "checks": [
                {"check": "one", "met": experiments, "failed": 0, "open": 0, "median": 1.0, "reason": ""},
                {"check": "two", "met": 0, "failed": 0, "open": experiments, "median": None, "reason": "too few runs"},
            ],
        }
        for number, counts in verdicts.items()
    }
    return {"preset": "p", "case": name, "experiments": experiments, "seed": 0, "draws": 199, "claims": claims}


def test_the_table_counts_what_is_right_wrong_and_open():
    cases = {
        "claim02_steeper": case_file("claim02_steeper", 20, claim2={HOLDS: 2, FAILS: 15, OPEN: 3}),
        "paper": case_file("paper", 20, claim2={HOLDS: 6, FAILS: 1, OPEN: 13}, claim22={OUT_OF_REACH: 20}),
    }
    table = power.make(Inputs.of(cases=cases, preset="p"))
    rows = table.frame.set_index(["claim", "paper"])
    assert rows.loc[(2, "right"), ["right", "wrong", "open", "out_of_reach"]].tolist() == [30, 5, 65, 0]
    assert rows.loc[(2, "wrong"), ["right", "wrong", "open"]].tolist() == [75, 10, 15]
    assert rows.loc[(2, "wrong"), ["open_check", "why_open"]].tolist() == ["two", "too few runs"]
    assert list(rows.index) == [(2, "right"), (2, "wrong"), (22, "right")]
    notes = " ".join(table.notes)
    assert "20 simulated experiments in each world, 199 bootstrap draws" in notes
    assert "claim 2 where L(D) ~ D^-0.17 (10 %)." in notes
    assert "a fault of the design: claims 2." in notes and "Out of reach of the preset: claims 22." in notes


def test_a_case_of_another_preset_or_another_world_is_refused(tmp_path):
    path = tmp_path / "paper.json"
    path.write_text(json.dumps(case_file("paper", 2, claim1={OPEN: 2})))
    assert Inputs.read(cases=[f"paper={path}"], preset="p").cases["paper"]["experiments"] == 2
    with pytest.raises(UserError, match="holds the world paper of preset p, not annealing of preset p"):
        Inputs.read(cases=[f"annealing={path}"], preset="p")
    with pytest.raises(UserError, match="not paper of preset q"):
        Inputs.read(cases=[f"paper={path}"], preset="q")
    path.write_text('{"case": "paper", "preset": "p"}')
    with pytest.raises(UserError, match="it lacks claims, draws, experiments"):
        Inputs.read(cases=[f"paper={path}"], preset="p")


def test_a_wrong_case_is_one_line(capsys):
    arguments = ["--design", json.dumps(sections(config("test"))), "--output", "x.json"]
    assert main(["nothing", "--experiments", "2", *arguments]) == 2
    assert "case: 'nothing' is not one of paper, annealing" in capsys.readouterr().err
    assert main(["paper", "--experiments", "0", *arguments]) == 2
    assert "--experiments: 0 is below 1" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_the_rule_simulates_every_world_once(tmp_path):
    jobs = planned("power", "--config", "preset=test", cwd=tmp_path)
    assert jobs == {"simulate": len(CASES), "tabulate": 1, "power": 1}
    assert "simulate" not in planned("figures", "--config", "preset=test", cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.xdist_group("workflow")
def test_a_world_is_simulated_resumed_and_simulated_again_when_its_runs_change(tmp_path):
    override = tmp_path / "two.yaml"
    override.write_text("power: {experiments: 2, seed: 0}\n")
    names = ("claim08_size", "claim20_spread")
    files = [f"results/test/power/{name}.json" for name in names]
    arguments = ["--cores", "2", *files, "--configfile", str(override), "--config", "preset=test"]
    done = snakemake(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = read_json(tmp_path / files[1])
    assert (found["case"], found["experiments"], found["preset"]) == ("claim20_spread", 2, "test")
    log = (tmp_path / "logs/simulate/test-claim20_spread.log").read_text()
    assert "claim20_spread: experiment 2 of 2" in log
    assert planned(*arguments[2:], cwd=tmp_path) == {}
    (tmp_path / files[0]).unlink()
    assert planned(*arguments[2:], cwd=tmp_path) == {"simulate": 1}
    override.write_text("power: {experiments: 2, seed: 0}\nsweeps: {depths: {lr_factor: 0.5}}\n")
    assert planned(*arguments[2:], cwd=tmp_path) == {"simulate": 2}
    override.write_text("power: {experiments: 2, seed: 0}\nsweeps: {lr_scan: {lr_factor: 0.5}}\n")
    assert planned(*arguments[2:], cwd=tmp_path) == {"simulate": 1}  # no claim reads that sweep
    assert Path(tmp_path / files[1]).is_file()
