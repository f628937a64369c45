"""The stages as targets: each asks for every file of its stage that the preset needs."""


rule figures:
    """Draw every figure of the paper, and make every table."""
    input:
        figure_files(),
        table_files(),
    localrule: True


rule tables:
    """Make every table of the paper."""
    input:
        table_files(),
    localrule: True


rule laws:
    """Fit every law that a figure or table needs."""
    input:
        law_files(),
    localrule: True


rule evaluations:
    """Evaluate by corpus and position the runs of every sweep that a figure needs so."""
    input:
        evaluation_files(),
    localrule: True


rule runs:
    """Train every run that a figure or table needs."""
    input:
        curve_files(),
    localrule: True


rule data:
    """Fetch, clean and tokenize the text."""
    input:
        TOKENS_META,
    localrule: True


rule lr_scan:
    """Scan learning rates by size: what the config's rule is fitted to."""
    input:
        f"results/{PRESET}/tables/learning_rates.md",
    localrule: True


rule precision:
    """Train the same models in float32 and in reduced precision, and compare their exponents."""
    input:
        f"results/{PRESET}/tables/precision.md",
    localrule: True


rule power:
    """Simulate experiments with the preset's runs, and count how often the claims' verdicts are right, wrong and open."""
    input:
        f"results/{PRESET}/tables/power.md",
    localrule: True


rule plan:
    """Print what the preset costs: runs, tokens, FLOP and hours by sweep, on the cores of this machine."""
    log:
        "logs/plan.log",
    localrule: True
    conda:
        "../environment.yml"
    params:
        config=json.dumps(config),
        cores=os.cpu_count(),
        precision=config["training"].get("precision", "float32"),
    shell:
        """
        speed=$(python -m pipeline.engines.speed --cores {params.cores} --precision {params.precision} 2>{log:q})
        python -m pipeline.plan \
            --config {params.config:q} \
            --cores {params.cores} \
            --speed "$speed" \
            2>>{log:q}
        """
