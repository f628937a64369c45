"""A reproduction of "Scaling Laws for Neural Language Models" (Kaplan et al. 2020), stage by stage.

corpora -> tokens -> runs -> evaluations -> laws -> figures, tables -> report

`pip install .` installs the laws alone, as the package `scaling_laws`: see docs/laws.md.
"""
