"""Tables 1, 2 and 5: the paper's numbers beside ours, on planted laws."""

from __future__ import annotations

import math

import pandas as pd
import planted
import pytest

from pipeline.analysis.inputs import Inputs
from pipeline.errors import UserError
from pipeline.plan.counts import count
from pipeline.tables import learning_rates, precision, table1, table2, table5
from pipeline.tables.__main__ import main
from pipeline.tables.table import COLUMNS, law_rows


def laws(*names: str) -> Inputs:
    known = planted.fits()
    return Inputs.of(laws={name: known[name] for name in names}, preset="planted")


def test_table1_sums_to_what_counts_says():
    table = table1.make(Inputs.of({"sizes": planted.sweep("sizes")}, preset="planted")).frame.set_index("operation")
    run = planted.make_run(4, 128)
    counts = count(run)
    total = table.loc["Total (non-embedding)"]
    parts = table.loc["Attention: QKV":"Feed-forward"]
    assert parts.parameters_ours.sum() == total.parameters_ours == counts.n_params == 786_432
    assert parts.flops_per_token_ours.sum() == total.flops_per_token_ours
    assert total.flops_per_token_ours == 2 * 786_432 + 2 * 4 * 128 * 128
    assert table.loc["Embed"].parameters_ours == (512 + 128) * 128
    everything = table.drop("Total (non-embedding)").flops_per_token_ours.sum()
    assert 3 * everything == counts.flops_all


def test_table2_has_the_truth_and_the_paper():
    table = table2.make(laws("L_N_D")).frame
    assert tuple(table.columns) == COLUMNS
    table = table.set_index("quantity")
    assert table.paper[["alpha_N", "alpha_D", "N_c", "D_c"]].tolist() == [0.076, 0.103, 6.4e13, 1.8e13]
    for name in ("alpha_N", "alpha_D", "N_c", "D_c"):
        row = table.loc[name]
        assert row.low < row.ours < row.high
        assert row.low <= planted.TRUTH[name] * 1.02
        assert row.high >= planted.TRUTH[name] * 0.98
    ratio = table.loc["alpha_N / alpha_D (D ~ N^ratio)"]
    assert ratio.ours == pytest.approx(table.ours["alpha_N"] / table.ours["alpha_D"])
    assert ratio.low < 0.8 < ratio.high
    assert table.comparable[["alpha_N", "alpha_D"]].tolist() == ["yes", "yes"]
    assert all(text.startswith("no:") for text in table.comparable[["N_c", "D_c"]])


def test_table5_rows_known_so_far():
    table = table5.make(laws("L_N", "L_D", "L_C")).frame.set_index("quantity")
    assert table.ours["alpha_N"] == pytest.approx(0.08, abs=0.002)
    assert table.n_runs["alpha_N"] == planted.fits()["L_N"].n_runs
    assert table.paper["C_c"] == pytest.approx(1.6e7)
    assert table.unit["C_c"] == "PF-days"
    assert table.ours["C_c"] == pytest.approx(planted.fits()["L_C"].value("C_c") / 8.64e19)
    later = table.loc["alpha_C_min"]
    assert later.paper == 0.050
    assert later[["ours", "low", "high", "n_runs"]].isna().all()
    assert later.note == "not fitted here"


def test_precision_pairs_models_and_seeds():
    sweep = planted.sweep("precision").copy()
    low = sweep.precision == "bfloat16"
    sweep.loc[low, "loss"] *= 1.02
    result = precision.make(Inputs.of({"precision": sweep}, preset="planted"))
    table = result.frame.set_index("precision")
    assert list(table.index) == ["float32", "bfloat16"]
    assert table.runs.tolist() == [10, 10]
    assert table["mean ln(loss / float32)"].tolist() == pytest.approx([0.0, 0.0198], abs=3e-3)
    assert "inside the 95 % interval of float32" in result.markdown()
    with pytest.raises(UserError, match="no runs of float32"):
        precision.make(Inputs.of({"precision": sweep[low]}))
    sweep.loc[low, "loss"] *= (sweep.n_params[low] / 1e5) ** 0.05
    assert "alpha_N of bfloat16 lies outside" in precision.make(Inputs.of({"precision": sweep})).markdown()


def scan(exponent: float, **parts: float) -> Inputs:
    """Rates around a best one of 0.012 (d_model / 32)^exponent, at widths such as d64 with the part that is given."""
    members = []
    for width, part in parts.items():
        best = 0.012 * (int(width[1:]) / 32) ** exponent
        for factor in (0.25, 0.5, 1, 2, 4):
            run = planted.make_run(2, int(width[1:]), n_head=1, lr=0.8 * best * factor, lr_hidden=part)
            members.append((run, {"floor": 3 + 0.05 * math.log(run.lr / best) ** 2, "noise": 0.0}))
    return Inputs.of({"lr_scan": planted.sweep_table("lr_scan", members)}, preset="planted")


def test_learning_rates_of_one_rate_are_those_planted():
    table = learning_rates.make(scan(-0.5, d32=1.0, d64=1.0, d128=1.0))
    assert table.frame.best_rate.tolist() == pytest.approx([0.012 * (32 / d) ** 0.5 for d in (32, 64, 128)], rel=0.02)
    assert table.frame.best_scanned.tolist() == pytest.approx(0.8 * table.frame.best_rate, rel=0.02)
    assert table.notes[-1].endswith("(N / 1e5)^-0.250.")
    assert "lr_hidden" not in table.frame and "hidden matrices" not in table.markdown()


def test_learning_rates_by_group_are_base_rates():
    table = learning_rates.make(scan(0.0, d16=2.0, d32=1.0, d128=0.25))
    assert table.frame.d_model.tolist() == [16, 32, 128] and table.frame.lr_hidden.tolist() == [2, 1, 0.25]
    assert table.frame.best_rate.tolist() == pytest.approx([0.012] * 3, rel=0.02)
    mean = float(table.notes[-1].split(";")[0].split()[-1])
    assert mean == pytest.approx(0.012, rel=0.02)
    assert "hidden matrices have lr_hidden times as much" in table.markdown()


def test_learning_rates_do_not_mix_parts_of_one_size():
    both = [scan(0.0, d64=part).sweeps["lr_scan"] for part in (0.5, 1.0)]
    table = learning_rates.make(Inputs.of({"lr_scan": pd.concat(both, ignore_index=True)})).frame
    assert table[["d_model", "lr_hidden"]].to_numpy().tolist() == [[64, 0.5], [64, 1]]
    assert "loss at rate 5" in table and "loss at rate 6" not in table


def test_unidentified_law_has_no_number():
    inputs = laws("L_N", "L_D", "L_C")
    inputs.laws["L_N"] = planted.unidentified(inputs.laws["L_N"], "one size only")
    result = table5.make(inputs)
    row = result.frame.set_index("quantity").loc["alpha_N"]
    assert row[["ours", "low", "high"]].isna().all()
    assert row.note == "not identified: one size only"
    assert "not identified: one size only" in result.markdown()
    inputs = laws("L_N_D")
    inputs.laws["L_N_D"] = planted.unidentified(inputs.laws["L_N_D"], "one side")
    assert table2.make(inputs).frame.ours.isna().all()


def test_command_writes_csv_and_markdown_twice_the_same(tmp_path):
    planted.fits()["L_N_D"].to_json(tmp_path / "L_N_D.json")
    written = []
    for folder in ("one", "two"):
        output = tmp_path / folder / "table2.csv"
        law = f"L_N_D={tmp_path}/L_N_D.json"
        assert main(["table2", "--law", law, "--preset", "test", "--output", str(output)]) == 0
        written.append((output.read_bytes(), output.with_suffix(".md").read_bytes()))
    assert written[0] == written[1]
    assert b"| 6.4e13 |" in written[0][1]
    assert b"alpha_N,,0.076," in written[0][0]


def test_errors_name_what_is_missing(capsys):
    assert main(["table9", "--output", "x.csv"]) == 2
    error = capsys.readouterr().err
    assert "table: 'table9' is not one of " in error
    assert "table1, table2, " in error
    assert main(["table2", "--output", "x.csv"]) == 2
    assert "law 'L_N_D' is needed" in capsys.readouterr().err
    with pytest.raises(UserError, match="law L_N has no parameter 'alpha_X'"):
        law_rows("L_N", None, ["alpha_X"])
    with pytest.raises(UserError, match="sweep sizes lacks a run of family transformer"):
        table1.make(Inputs.of({"sizes": planted.sweep("lstms")}))
