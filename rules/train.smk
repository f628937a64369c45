"""Runs: one training of one model is one job.

In: token files. Out: results/runs/<run>/curve.parquet, the weights beside it. A run that is killed goes on from its last
state in results/scratch/<run>. A finished run is not trained again for token files that are newer or gone, since its id
holds theirs; and the trainer's code is not an input: a change of its meaning is a change of `Run.recipe`.
A finished run that is lost with its group's job (Snakemake deletes the files of all when one fails) is put back from
results/scratch/finished/<run>, which is emptied when a workflow starts and when it has succeeded.

Runs of schedule wsd that differ in length and cooldown alone share a trunk: results/trunks/<trunk>/step-<n>.safetensors is
its whole state where a run branches off, made from the one before it. Whether a run has a trunk depends on the config, and
its files are the same without: it is not trained again for a state that is newer or gone, so results/trunks may be removed
at any time. The trainer finds the state by itself (`pipeline.train.branch`).
"""


onstart:
    refuse_without_slurm()
    record_host()
    say_what_is_left_out()
    say_without_compiler()
    forget_finished()
    say_how_long()


onsuccess:
    forget_finished()


rule train:
    """Train one model."""
    input:
        tokens=tokens_of_training,
        trunk=state_of_run,
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


rule trunk:
    """Train what runs of different length have in common, to the next step at which one of them branches off.

    In no group of a cluster, which would make one job of a whole trunk and all of its runs, one after another.
    """
    input:
        tokens=tokens_of_segment,
        before=state_before,
    output:
        "results/trunks/{trunk}/step-{step}.safetensors",
    log:
        "logs/trunk/{trunk}-{step}.log",
    benchmark:
        "logs/trunk/{trunk}-{step}.jsonl"
    wildcard_constraints:
        trunk=r"[a-z]+-[\w-]+",
    priority: priority_of_segment
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
            --segment \
            --run {params.run:q} \
            --tokens "$(dirname {input.tokens:q})" \
            --output {output:q} \
            --scratch results/scratch/{wildcards.trunk}-{wildcards.step} \
            --timing logs/timing/{wildcards.trunk}-{wildcards.step}.json \
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
