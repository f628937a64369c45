"""Evaluations: the loss of a run's weights by test corpus and by position in the context.

In: weights and token files. Out: results/runs/<run>/evaluation.parquet, and one table a sweep. Of the code that
evaluates, one module is an input: models and engines are the trainer's, whose meaning is `Run.recipe`.
"""


rule evaluate:
    """Evaluate the weights of one run on every corpus, position by position."""
    input:
        curve="results/runs/{run}/curve.parquet",
        weights="results/runs/{run}/model.safetensors",
        tokens=tokens_of_evaluation,
        code=code_of_evaluation,
    output:
        "results/runs/{run}/evaluation.parquet",
    log:
        "logs/evaluate/{run}.log",
    wildcard_constraints:
        run=r"[a-z]+-[\w-]+",
    group:
        group_of_run
    conda:
        "../environment.yml"
    threads: 1
    resources:
        mem_mb=memory_of_run,
        gpu_share=share_of_evaluation,
        runtime=lambda wildcards, attempt: 20 * attempt,
    params:
        run=run_json,
        tokens_per_corpus=lookup("evaluation/tokens_per_corpus", within=config),
    shell:
        """
        python -m pipeline.evaluate \
            --run {params.run:q} \
            --tokens "$(dirname {input.tokens:q})" \
            --weights "$(dirname {input.weights:q})" \
            --tokens-per-corpus {params.tokens_per_corpus} \
            --output {output:q} \
            2>{log:q}
        """


rule gather_evaluations:
    """Collect the evaluations of a sweep in one table."""
    input:
        evaluations=evaluations_of_sweep,
        curves=curves_of_sweep,
        tokens=TOKENS_META,
        code=code_of_gathering,
    output:
        "results/{preset}/evaluations/{sweep}.parquet",
    log:
        "logs/gather_evaluations/{preset}-{sweep}.log",
    conda:
        "../environment.yml"
    params:
        members=members_json,
    shell:
        """
        python -m pipeline.gather {wildcards.sweep} \
            --evaluations \
            --members {params.members:q} \
            --runs results/runs \
            --tokens {input.tokens:q} \
            --preset {wildcards.preset} \
            --output {output:q} \
            2>{log:q}
        """
