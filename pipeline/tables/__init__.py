"""The paper's tables, one module a table, ours beside the paper's.

A table module has `TITLE` and `make(inputs) -> Table`. `pipeline.plan.catalog` says which sweeps and laws it is given.

    python -m pipeline.tables table2 --law L_N_D=FILE --output table2.csv
"""
