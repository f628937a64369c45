"""Laws: formulas fitted to the points of sweeps.

In: sweep tables, and the laws that a law rests on. Out: results/<preset>/laws/<law>.json.
"""


rule fit:
    """Fit one law to its points, with intervals by bootstrap over runs."""
    input:
        unpack(sources_of_law),
        modules=law_modules,
    output:
        "results/{preset}/laws/{law}.json",
    log:
        "logs/fit/{preset}-{law}.log",
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=10,
    params:
        sources=law_options,
        bootstrap=lookup("fits/bootstrap", within=config),
        seed=lookup("fits/seed", within=config),
    shell:
        """
        python -m pipeline.fit {wildcards.law} \
            {params.sources} \
            --bootstrap {params.bootstrap} \
            --seed {params.seed} \
            --output {output:q} \
            2>{log:q}
        """
