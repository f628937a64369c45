"""Table 1: parameters and forward FLOPs per token of a Transformer, by operation, and those of our largest model."""

from __future__ import annotations

import pandas as pd

from pipeline.analysis.inputs import Inputs
from pipeline.errors import UserError
from pipeline.plan.counts import count
from pipeline.plan.run import Run
from pipeline.tables.table import Table

TITLE = "Parameter counts and compute estimates for a Transformer model, biases and layer norms left out."

COLUMNS = ("operation", "parameters", "parameters_ours", "flops_per_token", "flops_per_token_ours")


def make(inputs: Inputs) -> Table:
    """Return the table for the largest Transformer of the sweep sizes."""
    sizes = inputs.sweeps["sizes"]
    sizes = sizes[sizes.family == "transformer"]
    if sizes.empty:
        raise UserError("sweep sizes lacks a run of family transformer")
    run = _run(sizes.loc[sizes.n_params.idxmax()])
    counts = count(run)
    layers, d, ff, context = run.n_layer, run.d_model, run.d_ff, run.n_ctx
    rows = [
        ("Embed", "(n_vocab + n_ctx) d_model", counts.n_params_embedding, "4 d_model", 4 * d),
        ("Attention: QKV", "n_layer d_model 3 d_attn", 3 * layers * d * d, "2 n_layer d_model 3 d_attn",
         6 * layers * d * d),
        ("Attention: mask", "-", None, "2 n_layer n_ctx d_attn", 2 * layers * context * d),
        ("Attention: project", "n_layer d_attn d_model", layers * d * d, "2 n_layer d_attn d_model",
         2 * layers * d * d),
        ("Feed-forward", "n_layer 2 d_model d_ff", 2 * layers * d * ff, "2 n_layer 2 d_model d_ff",
         4 * layers * d * ff),
        ("De-embed", "-", None, "2 d_model n_vocab", 2 * counts.n_params_head),
        ("Total (non-embedding)", "N = 2 d_model n_layer (2 d_attn + d_ff)", counts.n_params,
         "C_forward = 2 N + 2 n_layer n_ctx d_attn", round(counts.flops_context / 3)),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=list(COLUMNS)).astype(
        {"parameters_ours": "Int64", "flops_per_token_ours": "Int64"}
    )
    note = (
        f"Ours: the largest model of preset {inputs.preset or 'unnamed'}, n_layer {layers}, d_model = d_attn {d}, d_ff "
        f"{ff}, n_ctx {context}, n_vocab {run.n_vocab}. Training costs three times the forward pass."
    )
    return Table(TITLE, table, (note,))


def _run(row: pd.Series) -> Run:
    """Return a run with the shape of a row of a sweep table; what does not enter the counts is left at one step."""
    shape = {name: int(row[name]) for name in ("n_layer", "d_model", "n_head", "d_ff", "n_ctx", "n_vocab")}
    return Run(tokens=str(row.run), n_steps=1, lr=0.0, **shape)
