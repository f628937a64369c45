"""Units that more than one part of the package needs. Inside, compute is in FLOP always."""

PF_DAY = 8.64e19
"""FLOP in one petaFLOP-day, the paper's unit of compute: 1e15 x 24 x 3600. For axes and tables."""
