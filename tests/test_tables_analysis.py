"""Tables 3, 4, 6 and the claims, on planted sweeps and laws."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import planted
import planted_more
import pytest

from pipeline.analysis.inputs import Inputs
from pipeline.claims.verdict import VERDICTS
from pipeline.plan import catalog
from pipeline.tables import claims, table3, table4, table6
from pipeline.tables.table import COLUMNS, SCALE


def inputs(*laws: str, sweeps: tuple[str, ...] = ()) -> Inputs:
    known = planted_more.fits()
    return Inputs.of(
        {name: planted.sweep(name) for name in sweeps}, laws={name: known[name] for name in laws}, preset="planted"
    )


def test_table3_has_the_truth_and_the_paper():
    table = table3.make(inputs("L_N_S")).frame
    assert tuple(table.columns) == COLUMNS
    table = table.set_index("quantity")
    assert table.paper[["alpha_N", "alpha_S", "N_c", "S_c"]].tolist() == [0.077, 0.76, 6.5e13, 2.1e3]
    for name in ("alpha_N", "alpha_S", "S_c"):
        assert table.ours[name] == pytest.approx(planted.TRUTH[name], rel=0.05)
    assert table.comparable[["alpha_N", "S_c"]].tolist() == ["yes", SCALE]
    stop = table.iloc[-1]
    assert stop.ours == pytest.approx(table.ours["alpha_N"] / table.ours["alpha_S"])
    assert stop.low < stop.ours < stop.high


def test_table3_of_a_law_that_is_not_identified_has_no_number():
    fit = planted.unidentified(planted_more.fits()["L_N_S"], "flat direction")
    table = table3.make(Inputs.of(laws={"L_N_S": fit})).frame
    assert table.ours.isna().all()
    assert set(table.note) == {"not identified: flat direction"}


def test_table4_counts_the_runs_that_a_law_was_fitted_to():
    laws = [regime.name for regime in table4.REGIMES]
    table = table4.make(inputs(*laws, sweeps=("sizes", "data"))).frame.set_index("law")
    used = planted.sweep("sizes").query("run in @runs", local_dict={"runs": planted_more.fits()["L_N"].runs})
    assert table.parameters["L(N)"] == f"{used.n_params.min():,} to {used.n_params.max():,}"
    assert table.compute["L(N)"] == "3,000 steps"
    assert table.batch["L(N)"] == "2,048 tokens"
    assert table.parameters["L(D)"] == "786,432"  # the largest model alone
    assert table.compute["L(N, D)"].endswith("to the early stop")
    assert table.parameters_paper["L(D)"] == "infinite"


def test_table4_says_why_a_law_has_no_runs():
    fit = replace(planted.unidentified(planted_more.fits()["L_C_min"], "all points on one side"), runs=[])
    given = inputs("L_N", sweeps=("sizes", "data"))
    given.laws["L_C_min"] = fit
    assert table4.make(given).frame.set_index("law").note["L(C_min)"] == "not identified: all points on one side"


def test_table4_says_which_law_was_not_fitted():
    table = table4.make(inputs("L_N", sweeps=("sizes", "data"))).frame.set_index("law")
    assert table.note["L(N, S)"] == "not fitted here"
    assert pd.isna(table.parameters["L(N, S)"])


def test_table6_compares_exponents_and_no_scale():
    table = table6.make(inputs("N_opt_min", "B_opt_min", "S_opt_min", "D_opt_min")).frame.set_index("quantity")
    assert table.paper[["N: p", "B: p", "S_min: p", "D: p"]].tolist() == [0.73, 0.24, 0.03, 0.27]
    assert table.paper[["N: k", "B: k", "S_min: k", "D: k"]].tolist() == [1.3e9, 2.0e6, 5.4e3, 2e10]
    assert table.comparable["N: p"] == "yes"
    assert table.comparable["N: k"] == SCALE
    # C_min = 6 N B_crit S_min, and D = 2 B_crit S_min: the exponents close.
    assert table.ours["N: p"] + table.ours["B: p"] + table.ours["S_min: p"] == pytest.approx(1, abs=1e-3)
    assert table.ours["N: p"] + table.ours["D: p"] == pytest.approx(1, abs=1e-3)


def test_table6_without_laws_has_the_paper_only():
    table = table6.make(Inputs.of()).frame
    assert len(table) == 8
    assert table.paper.notna().all()
    assert table.ours.isna().all()


def test_claims_has_a_row_a_claim_with_a_verdict_and_its_reason(tmp_path):
    table = claims.make(inputs("L_N", "L_N_S", sweeps=("sizes", "depths")))
    frame = table.frame
    assert frame.claim.tolist() == list(range(1, 23))
    assert set(frame.verdict) <= set(VERDICTS)
    assert frame.verdict.nunique() > 1
    assert frame.reason.str.len().min() > 20
    decided = frame[frame.verdict.isin(["holds", "does not hold at this scale"])]
    assert decided[["ours", "low", "high"]].notna().all(axis=None)
    assert ((frame.price != "") == (frame.verdict == "cannot be decided here")).all()
    table.save(tmp_path / "claims.csv")
    assert len(pd.read_csv(tmp_path / "claims.csv")) == 22
    assert "Of 22 claims: holds" in (tmp_path / "claims.md").read_text()


def test_the_catalog_gives_the_claims_all_that_they_ask_for():
    """No claim may be open because the catalog forgot an input."""
    needs = catalog.TABLES["claims"]
    known = planted_more.fits()
    full = Inputs.of(
        {name: planted.sweep(name) for name in needs.sweeps},
        {name: planted.evaluations(name) for name in needs.evaluations},
        {name: known[name] for name in needs.laws},
    )
    assert not claims.make(full).frame.reason.str.contains("is not given").any()
