"""The report's page: claims first, then the paper's sections with figures, captions and tables, then how it was made.

Snakemake's own report takes the page as its first page (rules/report.smk). The page is one fragment of HTML with the
images in it, so that the report needs no network.
"""
