"""What a law is made of: its parameters, and the power terms that they stand in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameter:
    """A parameter of a law: name, unit, the paper's value, and whether its logarithm is the natural coordinate."""

    name: str
    unit: str = ""
    paper: float | None = None
    log: bool = False


@dataclass(frozen=True)
class Term:
    """A power term of a law and how its two numbers are called and written.

    kind : "ratio" for (X_c / X)^alpha, "coefficient" for A / X^alpha, "constant" for E.
    sign : -1 where the exponent is written with the other sign (k X^p).
    reciprocal : whether the exponent is written as 1 / alpha.
    reference : the coefficient is that of X / reference.
    """

    kind: str
    coefficient: str
    column: str | None = None
    exponent: str | None = None
    symbol: str = ""
    sign: int = 1
    reciprocal: bool = False
    reference: float = 1.0


def plain(number: str) -> str:
    """Shorten an exponent: 8.8e+13 becomes 8.8e13.

    Examples
    --------
    >>> plain("8.80e+13"), plain("2.1e-05"), plain("482")
    ('8.80e13', '2.1e-5', '482')
    """
    mantissa, _, exponent = number.partition("e")
    return f"{mantissa}e{int(exponent)}" if mantissa and exponent else number


class Beyond(float):
    """What no number can hold, written by its logarithm.

    Examples
    --------
    >>> f"{Beyond(1147.3):.3g}"
    'e^1.15e+03'
    """

    def __new__(cls, logarithm: float) -> Beyond:
        """Make infinity, or 0, that knows its logarithm."""
        made = super().__new__(cls, float("inf") if logarithm > 0 else 0.0)
        made.logarithm = logarithm
        return made

    def __format__(self, form: str) -> str:
        """Return e^ and the logarithm."""
        return f"e^{self.logarithm:{form}}"
