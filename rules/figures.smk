"""Figures and tables of the paper.

In: sweep tables, evaluations and laws. Out: results/<preset>/figures/<figure>.{svg,png,csv} with its caption, and
results/<preset>/tables/<table>.{csv,md}. `pipeline/plan/catalog.py` says what each one reads.
"""


rule plot:
    """Draw one figure of the paper."""
    input:
        unpack(sources_of_figure),
        code=code_of_figure,
    output:
        svg=report(
            "results/{preset}/figures/{figure}.svg",
            caption="report/figure.rst",
            category="Figures",
            labels={"figure": "{figure}"},
        ),
        png="results/{preset}/figures/{figure}.png",
        csv="results/{preset}/figures/{figure}.csv",
        caption="results/{preset}/figures/{figure}.json",
    log:
        "logs/plot/{preset}-{figure}.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        sources=figure_options,
        title=lookup("title", within=config),
    shell:
        """
        python -m pipeline.figures {wildcards.figure} \
            {params.sources} \
            --preset {wildcards.preset} \
            --title {params.title:q} \
            --output {output.svg:q} \
            2>{log:q}
        """


rule tabulate:
    """Make one table of the paper, ours beside the paper's."""
    input:
        unpack(sources_of_table),
        code=code_of_table,
    output:
        csv=report(
            "results/{preset}/tables/{table}.csv",
            caption="report/table.rst",
            category="Tables",
            labels={"table": "{table}"},
        ),
        markdown="results/{preset}/tables/{table}.md",
    log:
        "logs/tabulate/{preset}-{table}.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        sources=table_options,
        title=lookup("title", within=config),
    shell:
        """
        python -m pipeline.tables {wildcards.table} \
            {params.sources} \
            --preset {wildcards.preset} \
            --title {params.title:q} \
            --output {output.csv:q} \
            2>{log:q}
        """
