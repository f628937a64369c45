"""The paper's figures, one module a figure.

A figure module has `TITLE`, the paper's own title, and `draw(inputs) -> Drawing`. It takes what it needs from `Inputs`
by name, draws through a `Drawing`, which records every point and line as it draws it, and ends with a caption whose
numbers are computed from the data. `pipeline.plan.catalog` says which sweeps, evaluations and laws a figure is given.

    python -m pipeline.figures fig01 --sweep sizes=FILE --sweep data=FILE --law L_N=FILE --output fig01.svg
"""
