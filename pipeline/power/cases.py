"""The worlds that a design is tried in: two in which the paper is right, and for each claim some in which it is wrong.

A wrong world differs from the paper's in as few constants as make that claim wrong by a factor worth knowing: about
twice what the claim's test allows. Other claims may be wrong there as well; only the one it is made for is looked at.

Standard library only: the Snakefile reads the names.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """A world by what differs from the world of the paper."""

    name: str
    """Of the file of its result."""
    claim: int | None
    """The claim that is wrong in it; None where the paper is right, and all claims are looked at."""
    what: str
    """What is so in this world, in words."""
    why: str
    """Why by so much."""
    exponents: Mapping[str, float] = field(default_factory=dict)
    """Exponents of `World.of_paper`."""
    constants: Mapping[str, float] = field(default_factory=dict)
    """Other constants, as for `World.changed`."""

    @property
    def seconds(self) -> float:
        """Seconds of one experiment of the laptop's design: where all claims are looked at, all laws are fitted."""
        return 1.5 if self.claim else 5.0


RIGHT = (
    Case("paper", None, "the paper is right", "its own numbers"),
    Case(
        "annealing",
        None,
        "the paper is right, and the loss is 3.5 % higher while the learning rate is at its peak",
        "what a cooldown gained here; no claim of the paper is about it",
        constants={"schedule.annealing": 0.035},
    ),
)
"""Worlds in which every claim is right."""

WRONG = (
    Case(
        "claim01_steeper",
        1,
        "L(N) ~ N^-0.13",
        "1.8 times the exponent, where 1.3 times agrees",
        exponents={"alpha_N": 0.13},
    ),
    Case(
        "claim01_logarithm",
        1,
        "the loss falls with the logarithm of N",
        "the alternative of Figure 23",
        constants={"size.logarithm": 1.0},
    ),
    Case(
        "claim02_steeper",
        2,
        "L(D) ~ D^-0.17",
        "what later work found on small corpora: 0.14 to 0.19",
        exponents={"alpha_D": 0.17},
    ),
    Case(
        "claim03_steeper",
        3,
        "L(C_min) ~ C_min^-0.09",
        "1.8 times the exponent, where 1.3 times agrees",
        exponents={"alpha_N": 0.14, "alpha_B": 0.36},
    ),
    Case(
        "claim04_shape",
        4,
        "every shape costs three times as much as in Figure 5",
        "5 % at d_ff / d_model = 8 and 6 % at d_model / n_layer = 5, where 3 % are allowed",
        constants={"shape.feed_forward": 0.0264, "shape.aspect": 0.0135, "shape.heads": 0.012},
    ),
    Case(
        "claim04_heads",
        4,
        "heads four times too narrow cost 8 %",
        "one ratio alone, at about twice what is allowed",
        constants={"shape.heads": 0.04},
    ),
    Case(
        "claim05_embeddings",
        5,
        "the loss follows all parameters, embeddings with them",
        "what the claim denies",
        constants={"size.embeddings": 1.0},
    ),
    Case(
        "claim05_one_layer",
        5,
        "one layer is 4 % better than two for each decade of N",
        "the paper's 4 % worse, the other way",
        constants={"shape.one_layer": -0.04},
    ),
    Case(
        "claim06_slope",
        6,
        "other text loses 1.6 nats for one on the test text",
        "twice as far from 1 as is allowed",
        constants={"transfer.slope": 1.6},
    ),
    Case(
        "claim06_phase",
        6,
        "a model in training is 0.1 nats worse on other text than a finished one of its test loss",
        "twice what is allowed",
        constants={"transfer.phase": 0.1},
    ),
    Case(
        "claim06_depth",
        6,
        "ten times the depth costs 0.1 nats on other text",
        "twice what is allowed",
        constants={"transfer.depth": 0.1},
    ),
    Case(
        "claim07_early",
        7,
        "LSTMs are 6 % better everywhere",
        "twice what is allowed on early tokens, and the wrong sign on late ones",
        constants={"context.lstm": -0.06},
    ),
    Case(
        "claim08_size",
        8,
        "reuse costs: four times is 4 % worse at equal N",
        "as much as the paper's gain, the other way",
        constants={"size.reuse": -0.4},
    ),
    Case(
        "claim08_compute",
        8,
        "reuse pays: four times is 4 % better at equal compute",
        "as much as the paper's loss, the other way",
        constants={"size.reuse": 1.4},
    ),
    Case(
        "claim09_ratio",
        9,
        "8 times the size needs 22 times the data",
        "alpha_N / alpha_D twice the paper's, where 1.3 times agrees",
        exponents={"alpha_D": 0.0485},
    ),
    Case(
        "claim10_early",
        10,
        "runs on few data overfit after a fifth of the steps",
        "four in ten of the bound, where the paper's runs stop at twice it",
        constants={"overfitting.pace": 5.0},
    ),
    Case(
        "claim11_exponent",
        11,
        "B_crit ~ L^-8.5",
        "1.8 times the exponent, where 1.3 times agrees",
        exponents={"alpha_B": 0.118},
    ),
    Case(
        "claim11_size",
        11,
        "B_crit at equal loss grows as N^0.75",
        "four and more times between the sizes of a scan, where twice agrees",
        constants={"batch_by_size": 0.75},
    ),
    Case(
        "claim11_noise",
        11,
        "the gradient noise scale is a tenth of B_crit",
        "a decade, where half a decade agrees",
        constants={"noise.scale": 0.1},
    ),
    Case(
        "claim12_hyperbola",
        12,
        "batches bend less: S / S_min - 1 = (B_crit / B)^0.5",
        "20 % in tokens off the hyperbola over two decades of batches, where 10 % are allowed",
        constants={"sharpness": 0.5},
    ),
    Case(
        "claim13_exponent",
        13,
        "learning curves fall as S^-0.4",
        "half the exponent, where 1 / 1.3 agrees",
        exponents={"alpha_S": 0.4},
    ),
    Case(
        "claim13_constants",
        13,
        "S_c grows as N^0.3: curves of different sizes share no constants",
        "6 % off the law over two decades of N, where 3 % are allowed",
        constants={"delay": 0.3},
    ),
    Case(
        "claim14_chinchilla",
        14,
        "the best size grows as C_min^0.5",
        "what Hoffmann et al. 2022 found",
        exponents={"alpha_N": 0.12, "alpha_S": 0.5, "alpha_B": 0.158},
    ),
    Case(
        "claim15_stop",
        15,
        "it is best to stop 20 % above the converged loss",
        "twice the paper's 10 %, where 1.3 times agrees",
        exponents={"alpha_S": 0.36},
    ),
    Case(
        "claim16_size",
        16,
        "models of 0.6 times the best size cost 60 % more compute",
        "three times the paper's 20 %",
        exponents={"alpha_S": 1.55},
    ),
    Case(
        "claim17_slower",
        17,
        "size buys next to nothing, L(N) ~ N^-0.01, and S_c grows as N^0.5",
        "the sign that the claim denies: larger models need more tokens to a loss",
        exponents={"alpha_N": 0.01},
        constants={"delay": 0.5},
    ),
    Case(
        "claim18_exponent",
        18,
        "the exponent of the place in the context falls by 0.05 in a decade of N",
        "the paper's growth, the other way",
        constants={"context.growth": -0.05},
    ),
    Case(
        "claim18_short",
        18,
        "models of a short context are 3 % worse on the tokens that they see",
        "their gain, the other way",
        constants={"context.short": 0.03},
    ),
    Case(
        "claim19_kinds",
        19,
        "schedules differ by 3 % each way",
        "twice the noise of the paper's scan",
        constants={"schedule.kinds": 0.03},
    ),
    Case(
        "claim20_spread",
        20,
        "seeds spread by 0.06 nats",
        "three times the paper's 0.02, where 0.03 agrees",
        constants={"noise.between": 0.06},
    ),
    Case(
        "claim20_by_size",
        20,
        "the spread of seeds grows as N^0.75",
        "about five times from the smaller half of the sizes to the larger, where twice agrees",
        constants={"noise.by_size": 0.75},
    ),
    Case(
        "claim21_data",
        21,
        "data buy so much, L(D) ~ D^-0.3, that L(C_min) never overtakes them",
        "the sign that the claim denies",
        exponents={"alpha_D": 0.3},
    ),
    Case(
        "claim22_bump",
        22,
        "one layer is 4 % better than two for each decade of N",
        "the paper's 4 % worse, the other way",
        constants={"shape.one_layer": -0.04},
    ),
)
"""Worlds in which one claim is wrong."""

CASES = {case.name: case for case in (*RIGHT, *WRONG)}
"""Name -> case."""
