"""Parameters and FLOPs of a model, as Table 1 of the paper counts them.

Symbols as in the paper: N non-embedding parameters, n_layer, d = d_model = d_attn, d_ff, n_ctx, n_vocab. Biases and
layer-norm parameters are left out, as the paper does. Every multiply-accumulate is 2 FLOPs; backward costs twice
the forward pass. What differs from family to family is in `pipeline.models`; here are the conventions.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.models import family
from pipeline.plan.run import Run


@dataclass(frozen=True)
class Counts:
    """Counts of one model; parameters are numbers, FLOPs are per token.

    Several conventions stand side by side, since at small N the convention decides the exponents (Pearce and Song 2024,
    Porian et al. 2024).
    """

    n_params: int
    """N, non-embedding, each shared weight once (Eq 2.1)."""
    n_params_reuse: int
    """N with each weight counted as often as it is applied (recurrent models)."""
    n_params_embedding: int
    """Token and position embeddings, (n_vocab + n_ctx) d; an LSTM has no position embedding."""
    n_params_head: int
    """Weights of the de-embedding product, n_vocab d (tied, so not extra parameters)."""
    flops: float
    """6 N: the paper's convention, training, weights counted as often as they are applied."""
    flops_context: float
    """6 N and the attention over the context, 3 x Eq 2.2."""
    flops_head: float
    """6 (N + n_vocab d): with the de-embedding."""
    flops_all: float
    """All of Table 1: weights, attention over the context, embedding and de-embedding."""

    @property
    def n_params_total(self) -> int:
        """Parameters with embeddings."""
        return self.n_params + self.n_params_embedding


def count(run: Run) -> Counts:
    """Count the parameters and the training FLOPs per token of a run's model (Table 1, Eq 2.1, Eq 2.2).

    Examples
    --------
    GPT-2 XL's shape has 1.475e9 non-embedding parameters:

    >>> shape = dict(tokens="t", n_layer=48, d_model=1600, n_head=25, n_vocab=50257, n_ctx=1024, n_steps=1, lr=1e-3)
    >>> count(Run(**shape)).n_params
    1474560000
    >>> round(count(Run(**shape)).n_params_embedding / 1e7, 2)
    8.2
    """
    kind = family(run.family)
    n_params, context = kind.n_params(run), kind.context_flops(run)
    applied = n_params * run.n_reuse
    head = run.n_vocab * run.d_model
    return Counts(
        n_params=n_params,
        n_params_reuse=applied,
        n_params_embedding=kind.n_params_embedding(run),
        n_params_head=head,
        flops=6.0 * applied,
        flops_context=6.0 * applied + 3.0 * context,
        flops_head=6.0 * (applied + head),
        flops_all=6.0 * (applied + head) + 3.0 * (context + 4 * run.d_model),
    )
