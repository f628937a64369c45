"""The plan of an experiment: its runs, their counts and costs. Standard library only: the Snakefile imports it."""
