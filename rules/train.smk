"""Runs: one training of one model is one job.

In: token files. Out: results/runs/<run>/curve.parquet, the weights beside it. A run that is killed goes on from its last
state in results/scratch/<run>. A finished run is not trained again for token files that are newer or gone, since its id
holds theirs; and the trainer's code is not an input: a change of its meaning is a change of `Run.recipe`.
A finished run that is lost with its group's job (Snakemake deletes the files of all when one fails) is put back from
results/scratch/finished/<run>, which is emptied when a workflow starts and when it has succeeded.
"""


onstart:
    refuse_without_slurm()
    record_host()
    say_what_is_left_out()
    say_without_compiler()
    forget_finished()


onsuccess:
    forget_finished()


rule train:
    """Train one model."""
    input:
        tokens=tokens_of_training,
    output:
        curve="results/runs/{run}/curve.parquet",
        weights="results/runs/{run}/model.safetensors",
    log:
        "logs/train/{run}.log",
    benchmark:
        "logs/train/{run}.jsonl"
    wildcard_constraints:
        run=r"[a-z]+-[\w-]+",
    priority: priority_of_run
    group:
        group_of_run
    conda:
        "../environment.yml"
    threads: threads_of_run
    resources:
        mem_mb=memory_of_run,
        runtime=minutes_of_run,
        gpu=cards_of_run,
        gpu_share=share_of_run,
    params:
        run=run_json,
    shell:
        """
        exec python -m pipeline.train \
            --run {params.run:q} \
            --tokens "$(dirname {input.tokens:q})" \
            --output {output.curve:q} \
            --scratch results/scratch/{wildcards.run} \
            --finished results/scratch/finished/{wildcards.run} \
            --timing logs/timing/{wildcards.run}.json \
            2>{log:q}
        """


rule gather:
    """Collect the curves of a sweep in one table, with every way to count parameters and compute."""
    input:
        curves=curves_of_sweep,
        tokens=TOKENS_META,
        code=code_of_gathering,
    output:
        "results/{preset}/sweeps/{sweep}.parquet",
    log:
        "logs/gather/{preset}-{sweep}.log",
    conda:
        "../environment.yml"
    params:
        members=members_json,
    shell:
        """
        python -m pipeline.gather {wildcards.sweep} \
            --members {params.members:q} \
            --runs results/runs \
            --tokens {input.tokens:q} \
            --preset {wildcards.preset} \
            --output {output:q} \
            2>{log:q}
        """
