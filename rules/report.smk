"""The report: every figure and table on one page that needs no network."""
