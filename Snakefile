"""Scaling Laws for Neural Language Models, reproduced end to end.

    results/corpora/<corpus>/meta.json                  documents of one corpus beside it
    results/tokens/<tokens>/meta.json                   tokenizer.json, train.bin, test.bin, transfer-<corpus>.bin beside it
    results/runs/<run>/curve.parquet                    losses of one training run; model.safetensors beside it
    results/trunks/<trunk>/step-<n>.safetensors         the state of a training that runs of several lengths go on from
    results/runs/<run>/evaluation.parquet               its losses by corpus and position
    results/<preset>/sweeps/<sweep>.parquet             the curves of all runs of a sweep
    results/<preset>/evaluations/<sweep>.parquet        the evaluations of all runs of a sweep
    results/<preset>/laws/<law>.json                    a fitted law
    results/<preset>/points/<law>.parquet               the rows that it was fitted to, with residuals
    results/<preset>/figures/<figure>.{svg,png,csv}     a figure of the paper
    results/<preset>/tables/<table>.{csv,md}            a table of the paper
    results/<preset>/power/<case>.json                  verdicts of simulated experiments in one world

<corpus>, <tokens>, <trunk> and <run> end in a hash of all that can change them, so presets and figures share them.

Targets: all (the default: figures and tables), figures, data, runs, evaluations, laws, tables, report, plan, power.
One stage again: snakemake --cores all figures --forcerun fit
"""

from snakemake.utils import min_version

min_version("9.14")


include: "rules/config.smk"
include: "rules/common.smk"
include: "rules/targets.smk"
include: "rules/corpora.smk"
include: "rules/tokens.smk"
include: "rules/train.smk"
include: "rules/evaluate.smk"
include: "rules/laws.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/power.smk"


rule all:
    """What is made when no target is named: every figure and table."""
    default_target: True  # in an included file this would be forgotten at its end
    input:
        rules.figures.input,
    localrule: True
