"""Laws: formulas fitted to the points of sweeps.

In: sweep tables, and the laws that a law rests on. Out: results/<preset>/laws/<law>.json, and the rows that it was
fitted to, with residuals, in results/<preset>/points/<law>.parquet.
"""


rule fit:
    """Fit one law to its points, with intervals by bootstrap over runs."""
    input:
        unpack(sources_of_law),
        code=code_of_fit,
    output:
        law="results/{preset}/laws/{law}.json",
        points="results/{preset}/points/{law}.parquet",
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
            --preset {wildcards.preset} \
            --bootstrap {params.bootstrap} \
            --seed {params.seed} \
            --output {output.law:q} \
            --output-points {output.points:q} \
            2>{log:q}
        """
