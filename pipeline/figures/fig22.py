"""Figure 22: learning-rate schedules.

Left: learning rate against step, both linear, one line a run. Right: loss at the end against the learning rate summed
over all steps, linear; hollow where the rate has no warmup or does not fall to near zero.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from pipeline import style
from pipeline.analysis.inputs import Inputs
from pipeline.analysis.rows import end_points, mean_over_seeds, plural, require, usable
from pipeline.figures.drawing import Drawing
from pipeline.figures.series import percent
from pipeline.plan.run import Run
from pipeline.train.optim import rate_at_step

TITLE = "Learning-rate schedule scan."
NEAR_ZERO = 0.05
"""A rate has decayed when its last value is at most this part of its peak."""


def draw(inputs: Inputs) -> Drawing:
    """Draw both panels; needs the sweep schedules."""
    drawing = Drawing(["rate", "loss"], height=2.8)
    rows, lost = usable(inputs.sweeps["schedules"], "schedules")
    drawing.note(lost)
    ends = end_points(rows, "final")
    require(ends, "schedules", "two schedules", 2, "schedule")
    ends["decays"] = (ends.lr <= NEAR_ZERO * ends.lr_peak) & (ends.warmup_steps > 0)
    # One setting of a schedule may have been run with several seeds.
    setting = ["schedule", "lr_peak", "lr_hidden", "lr_final", "cooldown", "warmup_steps", "n_steps", "decays"]
    for index, (schedule, own) in enumerate(ends.groupby("schedule")):
        name = schedule.replace("_", " ")
        colour, marker = style.SERIES[index % 8], style.MARKERS[index % 8]
        for k, run in enumerate(own.drop_duplicates(setting).itertuples()):
            steps, rates = _rates(run)
            length = f", {run.n_steps} steps" if ends.n_steps.nunique() > 1 else ""
            series = f"{name}, peak {run.lr_peak:.3g}{length}"
            drawing.line("rate", series, steps, rates, colour=colour, width=0.9, label=None if k else name)
        means = mean_over_seeds(own.assign(lr_sum=own.lr_sum.round(12)), "lr_sum", by=setting)
        for decays, part in means.groupby("decays"):
            drawing.means(
                "loss",
                name if decays else f"{name}, no warmup or decay",
                part,
                "lr_sum",
                colour=colour,
                marker=marker,
                hollow=not decays,
                label=name if decays or not means.decays.any() else None,
            )
    axes = drawing.axes["rate"]
    axes.set(xlabel="Step", ylabel="Learning rate", xlim=(0, None), ylim=(0, None))
    axes.locator_params(nbins=5)
    axes = drawing.axes["loss"]
    axes.set_xlabel("Learning rate summed over steps")
    style.loss_axis(axes, scale="linear")
    axes.plot(
        [],
        [],
        color=style.INK,
        ls="none",
        marker="o",
        mfc="white",
        ms=style.POINT,
        label="hollow: no warmup,\nor no decay to 0",
    )
    drawing.legend("loss", "right")
    drawing.describe(
        TITLE,
        "For a 3M model the final loss hardly depends on the schedule if the summed learning rate is large enough and "
        "the rate has warmup and falls to near zero; what remains is of the size of the noise between runs, about "
        "0.05.",
        _found(ends),
        f"{inputs.where} N = {style.number(ends.n_params.iloc[0])}, {int(ends.n_steps.max())} steps (paper: 250,000), "
        "so the summed rates differ from the paper's.",
    )
    return drawing


def _rates(run: object) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and the learning rate at each: the schedule itself, at 400 steps and at its corners."""
    same = Run(
        tokens="any",
        n_layer=1,
        d_model=1,
        n_vocab=2,
        n_steps=run.n_steps,
        lr=run.lr_peak,
        schedule=run.schedule,
        warmup_steps=run.warmup_steps,
        lr_final=run.lr_final,
        cooldown=run.cooldown,
    )
    corners = [same.warmup_steps, same.branch_point]
    steps = np.unique(np.r_[np.linspace(0, run.n_steps, 401).round(), corners]).astype(int)
    return steps, np.array([rate_at_step(same, int(step)) for step in steps])


def _found(ends: pd.DataFrame) -> str:
    """Say how far apart the schedules are, those with warmup and decay and a large sum apart from the others."""
    enough = ends.decays & (ends.lr_sum >= ends.lr_sum.median())
    best = ends.loss.min()
    words = [f"{plural(len(ends), 'run')} of {plural(ends.schedule.nunique(), 'schedule')}"]
    for part, name in (
        (ends[enough], "with warmup, decay and a summed rate above the median"),
        (ends[~enough], "all others"),
    ):
        if len(part):
            gap = part.loss / best - 1
            words.append(f"{name}: {percent(gap.min())} to {percent(gap.max())} above the best run")
    return "; ".join(words) + "."
