"""Power: what the claims' verdicts would be worth, before anything is trained.

In: the config's sweeps. Out: results/<preset>/power/<case>.json, the verdicts of simulated experiments in one world of
`pipeline/power/cases.py`; the table `power` counts them.
"""


rule simulate:
    """Simulate experiments with the preset's runs in one world, and count the verdicts of the claims."""
    input:
        code=code_of_simulation,
    output:
        "results/{preset}/power/{case}.json",
    log:
        "logs/simulate/{preset}-{case}.log",
    priority: priority_of_case
    conda:
        "../environment.yml"
    resources:
        mem_mb=2000,
        runtime=240,
    params:
        design=design_json,
        experiments=lookup("power/experiments", within=config),
        seed=lookup("power/seed", within=config),
    shell:
        """
        python -m pipeline.power {wildcards.case} \
            --design {params.design:q} \
            --preset {wildcards.preset} \
            --experiments {params.experiments} \
            --seed {params.seed} \
            --output {output:q} \
            2>{log:q}
        """
