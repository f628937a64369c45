"""An experiment that nobody could pay for: on the paper's scale, with many seeds and batches about B_crit."""

from __future__ import annotations

from typing import Any

LADDER = [
    *([2, 64], [2, 96], [2, 128], [3, 160], [4, 192], [4, 256], [5, 320], [6, 384], [6, 512], [8, 512], [10, 640]),
    *([12, 768], [16, 896], [20, 1024]),
]
"""Sizes of 1e5 to 2.5e8 parameters."""
LARGEST = [24, 1280]
SMALL = [[1, 16], [2, 16], [1, 24], [1, 32], [2, 32], [1, 48], [1, 64], [1, 90], [1, 128], [1, 180]]
"""Models below and about the size at which a second layer begins to pay."""
LENGTH = {"per_param": 100, "least": 2e11, "most": 1e12}

CONFIG: dict[str, Any] = {
    "preset": "generous",
    "data": {"name": "generous", "vocabulary": 50_257, "transfer": ["books", "wikipedia"], "min_train_tokens": 1e13},
    "model": {"n_ctx": 256, "head_width": 64, "d_ff_ratio": 4},
    "training": {"batch_tokens": 2**19, "tokens": 2e11, "schedule": "cosine", "warmup": 0.01, "evaluations": 60},
    "learning_rate": {"rule": "power", "coefficient": 0.01, "exponent": 0.2, "most": 0.02},
    "evaluation": {"tokens_per_corpus": 10**7},
    "power": {"experiments": 2, "seed": 0},
    "sweeps": {
        "sizes": {
            "tokens": LENGTH,
            "noise": True,
            "schedule": "wsd",
            "cooldown": 0.01,
            "variants": [
                {"shape": LADDER, "seed": list(range(8))},
                {"shape": [LARGEST], "seed": 0, "snapshots": 20},
                {"shape": SMALL, "seed": 0},
            ],
            "shown_only": SMALL,
        },
        "one_large": {
            "shape": [LARGEST],
            "tokens": LENGTH,
            "noise": True,
            "schedule": "wsd",
            "cooldown": 0.01,
            "snapshots": 20,
        },
        "data": {
            "shape": [[4, 256], [12, 768], [24, 1536], [48, 3072]],
            "n_unique_tokens": [2.5e5, 5e5, 1e6, 2e6, 4e6, 8e6, 1.6e7, 3.2e7, None],
            "batch_tokens": 2**13,
            "tokens": 1e12,
            "evaluations": 400,
        },
        "depths": {
            "shape": [
                *([n, width] for n in (0, 1) for width in (128, 256, 360, 512, 720, 1024)),
                *([n, width] for n in (2, 3, 6, 12) for width in (144, 180, 256, 360, 512)),
            ],
        },
        "batches": {
            "shape": [[4, 256], [12, 768]],
            "schedule": "constant",
            "evaluations": 400,
            "noise": True,
            "warmup": 1e-4,
            "tokens": 1e12,
            "batch_tokens": [2**k for k in range(12, 25)],
        },
        "shapes": {
            "variants": [
                {"label": "d_ff_ratio", "shape": [[8, 512]], "d_ff_ratio": 4},
                {"label": "d_ff_ratio", "shape": [[8, 624]], "d_ff_ratio": 2},
                {"label": "d_ff_ratio", "shape": [[8, 400]], "d_ff_ratio": 8},
                {"label": "aspect", "shape": [[4, 720], [8, 512], [16, 360], [32, 256]]},
                {"label": "heads", "shape": [[8, 512]], "n_head": [4, 8, 16, 32]},
            ],
        },
        "lstms": {"family": "lstm", "shape": [[1, 256], [1, 512], [1, 1024], [2, 256], [2, 512], [2, 1024]]},
        "recurrent": {
            "family": "recurrent",
            "shape": [[2, 256], [3, 384], [4, 512], [6, 512]],
            "n_reuse": [2, 4, 8],
        },
        "short": {"shape": [[2, 128], [4, 256], [6, 384], [8, 512]], "n_ctx": 8},
        "schedules": {
            "shape": [[4, 256]],
            "schedule": ["cosine", "linear", "constant", "cosine_cycles", "step"],
            "lr_factor": [0.7, 1.0],
        },
        "transfer": {"shape": [[4, 720], [8, 512], [16, 360], [32, 256]]},
    },
}
