"""The report: every claim, figure and table on one page that needs no network.

In: figures with their captions, tables, the config, the records of each run's time. Out: results/<preset>/report.html,
Snakemake's own report, whose first page is results/<preset>/report/page.html.
"""


report: "report/workflow.rst"


rule deviate:
    """List where the preset departs from the paper."""
    input:
        tokens=TOKENS_META,
        code=code_of_deviations,
    output:
        csv=f"results/{PRESET}/deviations.csv",
        markdown=f"results/{PRESET}/deviations.md",
    log:
        f"logs/deviate/{PRESET}.log",
    conda:
        "../environment.yml"
    params:
        config=json.dumps(config),
    shell:
        """
        python -m pipeline.report.deviations \
            --config {params.config:q} \
            --tokens {input.tokens:q} \
            --output {output.csv:q} \
            2>{log:q}
        """


rule write_page:
    """Write the page: claims, sections with figures and tables, deviations, costs."""
    input:
        figures=figure_files(),
        tables=table_files(),
        deviations=f"results/{PRESET}/deviations.md",
        code=code_of_page,
    output:
        directory(f"results/{PRESET}/report"),
    log:
        f"logs/write_page/{PRESET}.log",
    conda:
        "../environment.yml"
    params:
        config=json.dumps(config),
    shell:
        """
        python -m pipeline.report \
            --config {params.config:q} \
            --results "$(dirname {output:q})" \
            --runs results/runs \
            --logs logs \
            --output {output:q} \
            2>{log:q}
        """


rule report:
    """Make the report, with a second Snakemake that reads the finished figures and tables of the same config."""
    input:
        page=f"results/{PRESET}/report",
        stylesheet=f"{workflow.basedir}/rules/report/style.css",
    output:
        f"results/{PRESET}/report.html",
    log:
        f"logs/report/{PRESET}.log",
    localrule: True
    conda:
        "../environment.yml"
    params:
        snakefile=f"{workflow.basedir}/Snakefile",
    shell:
        """
        python -m snakemake figures \
            --snakefile {params.snakefile:q} \
            --configfile {input.page:q}/config.json \
            --profile none \
            --workflow-profile none \
            --cores 1 \
            --nolock \
            --report {output:q} \
            --report-stylesheet {input.stylesheet:q} \
            2>{log:q}
        """


rule readme:
    """Fill the README's generated parts from the results of the preset."""
    input:
        tables=table_files(),
        figures=figure_files(),
        deviations=f"results/{PRESET}/deviations.md",
    log:
        f"logs/readme/{PRESET}.log",
    localrule: True
    conda:
        "../environment.yml"
    params:
        config=json.dumps(config),
        preset=PRESET,
    shell:
        """
        python -m pipeline.report.readme \
            --config {params.config:q} \
            --results results/{params.preset} \
            --docs docs/{params.preset} \
            2>{log:q}
        """
