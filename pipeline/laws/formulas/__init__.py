"""The laws: one module a formula, with its equation, parameters, units and the paper's values."""
