"""The fitting engine: what is the same for all laws (points checked, objective, solver, intervals, the result)."""
