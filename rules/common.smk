"""Every function of the rules: the plan of the preset, and what each rule reads from it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

from pipeline.lock import record_host
from pipeline.plan import catalog, cost, placement
from pipeline.plan.imports import code_files
from pipeline.plan.progress import Progress, duration
from pipeline.plan.trunk import parts, state_file
from pipeline.power.cases import CASES
from pipeline.power.design import sections
from pipeline.train import finished

RUNS = EXPERIMENT.runs
TRUNKS = EXPERIMENT.trunks
SWEEPS = EXPERIMENT.sweeps
PRESET = EXPERIMENT.preset
TOKENS_META = f"results/tokens/{EXPERIMENT.tokens_id}/meta.json"

ON_GPUS = bool(os.environ.get("CLUSTER_GPU"))  # jobs ask a cluster for GPUs

# Jobs find the package from whatever folder they run in. Not a prefix of their commands, which would have to be quoted.
os.environ.update(PYTHONPATH=str(workflow.basedir))


wildcard_constraints:
    preset=PRESET,  # another preset's results are not made with this config
    sweep=r"\w+",
    law=r"\w+",
    figure=r"\w+",
    table=r"\w+",
    case=r"\w+",
    corpus=r"[\w-]+",
    tokens=r"[\w-]+",
    step=r"\d+",


# Corpora and tokens


def meta_of_corpus(name):
    """Return the file that ends the fetching of a corpus."""
    return f"results/corpora/{EXPERIMENT.corpus_id(name)}/meta.json"


BY_ID = ("corpus", "data set", "run", "trunk")  # what has an id that follows the text


def of_config(kind, name, known):
    """Return what this config has under a name; an id may be another config's, or that of own text before an edit."""
    if name not in known:
        why = ", whose own text may have changed" if kind in BY_ID else ""
        there = "" if kind in ("run", "trunk") else f"; there are {', '.join(known)}"
        raise WorkflowError(f"{name}: no {kind} of this config{why}{there}")
    return known[name]


def corpus_of_config(wildcards):
    """Return name and settings of a corpus."""
    return of_config("corpus", wildcards.corpus, EXPERIMENT.corpora)


def corpus_name(wildcards):
    """Return the name of a corpus in the config."""
    return corpus_of_config(wildcards)[0]


def corpus_spec_json(wildcards):
    """Return the settings of a corpus as JSON."""
    return json.dumps(corpus_of_config(wildcards)[1], sort_keys=True)


def data_of_config(wildcards):
    """Return the data settings of token files."""
    return of_config(
        "data set", wildcards.tokens, {EXPERIMENT.tokens_id: config["data"]}
    )


def tokens_spec_json(wildcards):
    """Return the data settings of token files as JSON."""
    return json.dumps(data_of_config(wildcards), sort_keys=True)


def train_documents(wildcards):
    """Return the documents that are trained on."""
    return [meta_of_corpus(name) for name in data_of_config(wildcards)["train"]]


def transfer_documents(wildcards):
    """Return the documents that are only evaluated on."""
    return [meta_of_corpus(name) for name in data_of_config(wildcards)["transfer"]]


def train_corpora(wildcards):
    """Return NAME=FOLDER of each corpus that is trained on."""
    return [
        f"{name}={os.path.dirname(meta_of_corpus(name))}"
        for name in data_of_config(wildcards)["train"]
    ]


def transfer_corpora(wildcards):
    """Return NAME=FOLDER of each corpus that is only evaluated on."""
    return [
        f"{name}={os.path.dirname(meta_of_corpus(name))}"
        for name in data_of_config(wildcards)["transfer"]
    ]


# Runs, their trunks, and sweeps


def part_of_job(wildcards):
    """Return the run that a job trains or evaluates, and the step that it begins after."""
    if hasattr(wildcards, "trunk"):
        trunk = of_config("trunk", wildcards.trunk, TRUNKS)
        segments = {str(point): trunk.segment(point) for point in trunk.points}
        return of_config("branch point of the trunk", wildcards.step, segments)
    return parts(of_config("run", wildcards.run, RUNS), TRUNKS)[-1]


def run_of_job(wildcards):
    """Return the run that a job trains or evaluates."""
    return part_of_job(wildcards).run


def tokens_until(made, wildcards):
    """Return the token files of a run as an input of the job that makes the file `made`.

    A run's id holds theirs, so newer ones change nothing that is made, and ones that are gone are not missed: Snakemake
    would make all runs again with them. Not before: to jobs that take a file as `ancient` Snakemake does not go on from
    one that makes it again.
    """
    tokens = f"results/tokens/{run_of_job(wildcards).tokens}/meta.json"
    if not os.path.exists(made):
        return tokens
    return ancient(tokens) if os.path.exists(tokens) else []


def tokens_of_training(wildcards):
    """Return the token files that a run trains on."""
    return tokens_until(f"results/runs/{wildcards.run}/curve.parquet", wildcards)


def tokens_of_segment(wildcards):
    """Return the token files that a segment of a trunk trains on."""
    state = state_of_trunk(wildcards.trunk, wildcards.step)
    return tokens_until(state, wildcards)


def tokens_of_evaluation(wildcards):
    """Return the token files that a run is evaluated on."""
    return tokens_until(f"results/runs/{wildcards.run}/evaluation.parquet", wildcards)


def run_json(wildcards):
    """Return the run as JSON."""
    return run_of_job(wildcards).to_json()


def state_of_trunk(trunk, step):
    """Return the file of the state of a trunk after a step."""
    return f"results/trunks/{trunk}/{state_file(step)}"


def state_for(files, trunk, step):
    """Return the state of a trunk that some files are made from; none where they begin at step 0.

    None as well for files that are there and older than it, or there without it: it was removed and perhaps made again,
    or there was no such branch point in the config of then. That is no reason to make the files again.
    """
    state = Path(state_of_trunk(trunk, step))
    files = [Path(file) for file in files]
    if all(file.exists() for file in files):
        oldest = min(file.stat().st_mtime for file in files)
        if not state.exists() or state.stat().st_mtime > oldest:
            return []
    return str(state) if step else []


def state_before(wildcards):
    """Return the state that a segment of a trunk goes on from."""
    trunk, start = wildcards.trunk, part_of_job(wildcards).start
    return state_for([state_of_trunk(trunk, wildcards.step)], trunk, start)


def state_of_run(wildcards):
    """Return the state that a run branches off from."""
    part = part_of_job(wildcards)
    names = ("curve.parquet", "model.safetensors")
    files = [f"results/runs/{part.run.id}/{name}" for name in names]
    return state_for(files, part.run.trunk_id, part.start)


def priority_of_run(wildcards):
    """Return the run's cost: the longest starts first, so that no long run is left alone at the end."""
    return max(1, round(part_of_job(wildcards).seconds))


def priority_of_segment(wildcards):
    """Return the cost of all that waits for a segment of a trunk, one thing after another, and its own."""
    trunk = of_config("trunk", wildcards.trunk, TRUNKS)
    return max(1, round(trunk.seconds(int(wildcards.step))))


def memory_of_run(wildcards, attempt):
    """Return the memory of a run's job in MB: on a cluster two Snakemakes of 165 MB run in it as well."""
    memory = placement.host_mb if ON_GPUS else cost.memory_mb
    return (memory(run_of_job(wildcards)) + 400) * attempt


def minutes_of_run(wildcards, attempt):
    """Return the minutes that a run may take."""
    minutes = placement.gpu_minutes if ON_GPUS else cost.minutes
    part = part_of_job(wildcards)
    return minutes(part.run, part.start) * attempt


def cards_of_run(wildcards):
    """Return the GPUs that a run asks a cluster for."""
    return placement.cards(run_of_job(wildcards)) if ON_GPUS else 0


def threads_of_run(wildcards):
    """Return the threads of a run: one, and one for each GPU's process."""
    return max(1, cards_of_run(wildcards))


def share_of_run(wildcards):
    """Return the percent of a GPU that a run takes where runs share them (profiles/gpu), above 100 on several."""
    run = run_of_job(wildcards)
    slots = placement.CARD_SLOTS * (placement.cards(run) - 1) + placement.card_slots(
        run
    )
    return 100 * slots // placement.CARD_SLOTS


def share_of_evaluation(wildcards):
    """Return the percent of a GPU that an evaluation takes."""
    return min(100, share_of_run(wildcards))


def group_of_run(wildcards):
    """Return the group of a run on a cluster: short runs share a job, a long one has its own."""
    seconds = cost.gpu_seconds if ON_GPUS else cost.seconds
    part = part_of_job(wildcards)
    return "train" if seconds(part.run, part.start) < 600 else wildcards.run


def say_what_is_left_out():
    """Say which figures and tables the config's text can't give."""
    for name, reason in catalog.left_out(config).items():
        logger.warning(f"{name} is left out: {reason}")


def refuse_without_slurm():
    """Refuse to submit jobs from a machine without Slurm's commands."""
    submitted = not all(job.is_local for job in workflow.dag.needrun_jobs())
    if (
        workflow.executor_plugin.name == "slurm"
        and submitted
        and not shutil.which("sbatch")
    ):
        raise WorkflowError(
            "executor: slurm needs Slurm's commands (sbatch, sinfo) on the PATH, and there is no sbatch: start it on a "
            "login node, or without --profile slurm"
        )


def trains_on_cores():
    """Return whether jobs of this workflow train on the cores of this machine."""
    from pipeline.engines import lease

    jobs = workflow.dag.needrun_jobs()
    trains = any(job.rule.name in ("train", "trunk") for job in jobs)
    return trains and workflow.local_exec and not lease.has_driver()


def say_without_compiler():
    """Say that runs take longer, where this machine trains them on its cores and has no C++ compiler."""
    from pipeline.engines import native

    if trains_on_cores() and not native.compiler():
        logger.warning(
            "no C++ compiler (g++ or clang++; $CXX names another): torch trains the runs, and takes several times longer"
        )


def measured_speed(cores):
    """Return how fast this machine trains on all of these cores."""
    logger.info("Measuring how fast this machine trains.")
    precision = config["training"].get("precision", "float32")
    command = [sys.executable, "-m", "pipeline.engines.speed", "--cores", str(cores)]
    done = subprocess.run(
        [*command, "--precision", precision], capture_output=True, text=True
    )
    if done.returncode:
        raise WorkflowError(done.stderr.strip())
    return cost.Speed.from_json(done.stdout)


def planned_seconds(job, speed):
    """Return the seconds that a job takes by the plan."""
    if job.rule.name in ("train", "trunk"):
        part = part_of_job(job.wildcards)
        return speed.seconds(part.run, part.start)
    if job.rule.name == "simulate":
        return config["power"]["experiments"] * CASES[job.wildcards.case].seconds
    return cost.RULE_SECONDS.get(job.rule.name, 0.0)


def say_how_long():
    """Say at the start how long the workflow takes here, and after each job how much of its planned work is done."""
    cores = workflow.resource_settings.cores or 1
    here = trains_on_cores()
    speed = measured_speed(cores) if here else cost.Speed()
    jobs = {
        job.jobid: planned_seconds(job, speed) for job in workflow.dag.needrun_jobs()
    }
    progress = Progress(
        {job: seconds for job, seconds in jobs.items() if seconds}, cores
    )
    if here:
        logger.info(
            f"By its plan this takes {duration(progress.planned())} on {cores} cores of this machine."
        )
    logger.addHandler(progress)


def forget_finished():
    """Forget the second names of runs whose files are in their place, so that `--forcerun train` trains."""
    finished.forget(Path("results/scratch/finished"), Path("results/runs"))


def members_of_sweep(wildcards):
    """Return the members of a sweep."""
    return of_config("sweep", wildcards.sweep, SWEEPS)


def curves_of_sweep(wildcards):
    """Return the curves of a sweep's runs."""
    return [
        f"results/runs/{member.run.id}/curve.parquet"
        for member in members_of_sweep(wildcards)
    ]


def evaluations_of_sweep(wildcards):
    """Return the evaluations of a sweep's runs."""
    return [
        f"results/runs/{member.run.id}/evaluation.parquet"
        for member in members_of_sweep(wildcards)
    ]


def members_json(wildcards):
    """Return run id -> [label, fitted] of a sweep as JSON."""
    members = members_of_sweep(wildcards)
    return json.dumps(
        {member.run.id: [member.label, member.fitted] for member in members}
    )


# Laws, figures and tables


def sources(needs, preset):
    """Return the files behind a catalog entry, by kind."""
    return {
        "sweeps": [f"results/{preset}/sweeps/{name}.parquet" for name in needs.sweeps],
        "evaluations": [
            f"results/{preset}/evaluations/{name}.parquet" for name in needs.evaluations
        ],
        "laws": [f"results/{preset}/laws/{name}.json" for name in needs.laws],
        "points": [f"results/{preset}/points/{name}.parquet" for name in needs.points],
        "cases": [
            f"results/{preset}/power/{name}.json" for name in CASES if needs.cases
        ],
    }


def options(needs, preset):
    """Return the files behind a catalog entry as command-line options."""
    kinds = {
        "sweeps": "--sweep",
        "evaluations": "--evaluation",
        "laws": "--law",
        "points": "--points",
        "cases": "--case",
    }
    return " ".join(
        f"{kinds[kind]} {Path(path).stem}={path}"
        for kind, paths in sources(needs, preset).items()
        for path in paths
    )


def needs_of_law(wildcards):
    """Return what a law needs."""
    return of_config("law", wildcards.law, catalog.LAWS)


def sources_of_law(wildcards):
    """Return what a law is fitted to."""
    return sources(needs_of_law(wildcards), wildcards.preset)


def law_options(wildcards):
    """Return what a law is fitted to, as options."""
    return options(needs_of_law(wildcards), wildcards.preset)


def needs_of_figure(wildcards):
    """Return what a figure needs."""
    return of_config("figure", wildcards.figure, catalog.FIGURES)


def sources_of_figure(wildcards):
    """Return what a figure is drawn from."""
    return sources(needs_of_figure(wildcards), wildcards.preset)


def figure_options(wildcards):
    """Return what a figure is drawn from, as options."""
    return options(needs_of_figure(wildcards), wildcards.preset)


def needs_of_table(wildcards):
    """Return what a table needs."""
    return of_config("table", wildcards.table, catalog.TABLES)


def sources_of_table(wildcards):
    """Return what a table is made from."""
    return sources(needs_of_table(wildcards), wildcards.preset)


def table_options(wildcards):
    """Return what a table is made from, as options."""
    return options(needs_of_table(wildcards), wildcards.preset)


def priority_of_case(wildcards):
    """Return the cost of a world: the longest starts first."""
    return max(1, round(CASES[wildcards.case].seconds))


def design_json(wildcards):
    """Return what the runs of the claims follow from as JSON."""
    return json.dumps(sections(config), sort_keys=True)


# Code: what a job's module imports, so that an edit reruns what it can change


def code_of_gathering(wildcards):
    """Return the code that gathers a sweep."""
    return code_files("pipeline.gather")


def code_of_evaluation(wildcards):
    """Return the code of an evaluation, without that of models and engines (rules/evaluate.smk says why)."""
    return [f"{workflow.basedir}/pipeline/train/evaluate.py"]


def code_of_fit(wildcards):
    """Return the code of a fit."""
    return code_files("pipeline.fit")


def code_of_figure(wildcards):
    """Return the code of one figure."""
    return code_files(
        "pipeline.figures.__main__", f"pipeline.figures.{wildcards.figure}"
    )


def code_of_table(wildcards):
    """Return the code of one table."""
    return code_files("pipeline.tables.__main__", f"pipeline.tables.{wildcards.table}")


def code_of_simulation(wildcards):
    """Return the code of simulated experiments: worlds, fits, claims."""
    return code_files("pipeline.power.__main__")


def code_of_deviations(wildcards):
    """Return the code of the table of deviations."""
    return code_files("pipeline.report.deviations")


def code_of_page(wildcards):
    """Return the code of the report's page, and its templates."""
    templates = [
        f"{workflow.basedir}/pipeline/report/{name}.html"
        for name in ("page", "caption")
    ]
    return [*code_files("pipeline.report.__main__"), *templates]


# Targets: what the preset's figures and tables need


def figure_files():
    """Return every figure of the preset."""
    return [
        f"results/{PRESET}/figures/{name}.{end}"
        for name in EXPERIMENT.figures
        for end in ("svg", "png", "csv")
    ]


def table_files():
    """Return every table of the preset."""
    return [
        f"results/{PRESET}/tables/{name}.{end}"
        for name in EXPERIMENT.tables
        for end in ("csv", "md")
    ]


def law_files():
    """Return every law of the preset."""
    return [
        f"results/{PRESET}/laws/{law}.json"
        for law in catalog.all_laws(EXPERIMENT.needs)
    ]


def evaluation_files():
    """Return every evaluated sweep of the preset."""
    names = sorted({name for needs in EXPERIMENT.needs for name in needs.evaluations})
    return [f"results/{PRESET}/evaluations/{name}.parquet" for name in names]


def curve_files():
    """Return the curve of every run that a figure or table of the preset needs."""
    sweeps = catalog.all_sweeps(EXPERIMENT.needs)
    return sorted(
        {
            f"results/runs/{member.run.id}/curve.parquet"
            for name in sweeps
            for member in SWEEPS[name]
        }
    )
