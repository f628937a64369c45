"""Every function of the rules: the plan of the preset, and what each rule reads from it."""

import json
import os

from pipeline import catalog, cost
from pipeline.config import check_config
from pipeline.run import Run, content_id
from pipeline.sweeps import runs_of_sweep

config = check_config(config, f"{workflow.basedir}/rules/config.schema.yaml")
PRESET = config["preset"]

shell.prefix(f"export PYTHONPATH={workflow.basedir}${{PYTHONPATH:+:$PYTHONPATH}}; ")


wildcard_constraints:
    preset=r"\w+",
    sweep=r"\w+",
    law=r"\w+",
    table=r"\w+",
    corpus=r"[\w-]+",
    tokens=r"[\w-]+",


# The plan: corpora, tokens, runs. Known before any job starts.


def corpora_of_preset():
    """Return corpus id -> (name, spec) of the corpora that the preset's text is made from."""
    names = [*config["data"]["train"], *config["data"]["transfer"]]
    return {content_id(name, config["corpora"][name]): (name, config["corpora"][name]) for name in names}


def tokens_id():
    """Return the id of the token files: the data settings and the corpora that they name."""
    return content_id(config["data"]["name"], {"data": config["data"], "corpora": sorted(CORPORA)})


def meta_of_corpus(name):
    """Return the file that ends the fetching of a corpus."""
    return f"results/corpora/{content_id(name, config['corpora'][name])}/meta.json"


CORPORA = corpora_of_preset()
TOKENS = {tokens_id(): config["data"]}
TOKENS_META = f"results/tokens/{tokens_id()}/meta.json"
SWEEPS = {name: runs_of_sweep(name, config, tokens_id()) for name in config["sweeps"]}
RUNS = {member.run.id: member.run for members in SWEEPS.values() for member in members}


def corpus_name(wildcards):
    """Return the name of a corpus in the config."""
    return CORPORA[wildcards.corpus][0]


def corpus_spec_json(wildcards):
    """Return the settings of a corpus as JSON."""
    return json.dumps(CORPORA[wildcards.corpus][1], sort_keys=True)


def tokens_spec_json(wildcards):
    """Return the data settings of token files as JSON."""
    return json.dumps(TOKENS[wildcards.tokens], sort_keys=True)


def train_documents(wildcards):
    """Return the documents that are trained on."""
    return [meta_of_corpus(name) for name in config["data"]["train"]]


def transfer_documents(wildcards):
    """Return the documents that are only evaluated on."""
    return [meta_of_corpus(name) for name in config["data"]["transfer"]]


def train_corpora(wildcards):
    """Return NAME=FOLDER of each corpus that is trained on."""
    return [f"{name}={os.path.dirname(meta_of_corpus(name))}" for name in config["data"]["train"]]


def transfer_corpora(wildcards):
    """Return NAME=FOLDER of each corpus that is only evaluated on."""
    return [f"{name}={os.path.dirname(meta_of_corpus(name))}" for name in config["data"]["transfer"]]


# Runs and sweeps


def tokens_of_run(wildcards):
    """Return the token files that a run trains on."""
    return f"results/tokens/{RUNS[wildcards.run].tokens}/meta.json"


def run_json(wildcards):
    """Return the run as JSON."""
    return RUNS[wildcards.run].to_json()


def priority_of_run(wildcards):
    """Return the run's cost: the longest starts first, so that no long run is left alone at the end."""
    return max(1, round(cost.seconds(RUNS[wildcards.run])))


def memory_of_run(wildcards, attempt):
    """Return the memory of a run in MB."""
    return cost.memory_mb(RUNS[wildcards.run]) * attempt


def minutes_of_run(wildcards, attempt):
    """Return the minutes that a run may take."""
    return cost.minutes(RUNS[wildcards.run]) * attempt


def curves_of_sweep(wildcards):
    """Return the curves of a sweep's runs."""
    return [f"results/runs/{member.run.id}/curve.parquet" for member in SWEEPS[wildcards.sweep]]


def evaluations_of_sweep(wildcards):
    """Return the evaluations of a sweep's runs."""
    return [f"results/runs/{member.run.id}/evaluation.parquet" for member in SWEEPS[wildcards.sweep]]


def members_json(wildcards):
    """Return run id -> [label, fitted] of a sweep as JSON."""
    members = SWEEPS[wildcards.sweep]
    return json.dumps({member.run.id: [member.label, member.fitted] for member in members})


# Laws, figures and tables


def sources(needs, preset):
    """Return the files behind a catalog entry, by kind."""
    return {
        "sweeps": [f"results/{preset}/sweeps/{name}.parquet" for name in needs.sweeps],
        "evaluations": [f"results/{preset}/evaluations/{name}.parquet" for name in needs.evaluations],
        "laws": [f"results/{preset}/laws/{name}.json" for name in needs.laws],
    }


def options(needs, preset):
    """Return the files behind a catalog entry as command-line options."""
    kinds = {"sweeps": "--sweep", "evaluations": "--evaluation", "laws": "--law"}
    return " ".join(
        f"{kinds[kind]} {name}={path}"
        for kind, paths in sources(needs, preset).items()
        for name, path in zip(getattr(needs, kind), paths)
    )


def sources_of_law(wildcards):
    """Return what a law is fitted to."""
    return sources(catalog.LAWS[wildcards.law], wildcards.preset)


def law_options(wildcards):
    """Return what a law is fitted to, as options."""
    return options(catalog.LAWS[wildcards.law], wildcards.preset)


def sources_of_figure(wildcards):
    """Return what a figure is drawn from."""
    return sources(catalog.FIGURES[wildcards.figure], wildcards.preset)


def figure_options(wildcards):
    """Return what a figure is drawn from, as options."""
    return options(catalog.FIGURES[wildcards.figure], wildcards.preset)


def sources_of_table(wildcards):
    """Return what a table is made from."""
    return sources(catalog.TABLES[wildcards.table], wildcards.preset)


def table_options(wildcards):
    """Return what a table is made from, as options."""
    return options(catalog.TABLES[wildcards.table], wildcards.preset)


def law_modules(wildcards):
    """Return the code of the fits, so that an edit fits again."""
    return sorted(glob_code("pipeline/laws")) + [f"{workflow.basedir}/pipeline/{name}.py" for name in ("fit", "points")]


def figure_modules(wildcards):
    """Return the code of one figure, so that an edit draws it again and no other."""
    return [f"{workflow.basedir}/pipeline/figures/{name}.py" for name in (wildcards.figure, "style")]


def table_modules(wildcards):
    """Return the code of one table."""
    return [f"{workflow.basedir}/pipeline/tables/{wildcards.table}.py"]


def glob_code(folder):
    """Return the Python files of a folder of the workflow."""
    where = os.path.join(workflow.basedir, folder)
    return [os.path.join(where, name) for name in os.listdir(where) if name.endswith(".py")]


# Targets: what the preset's config has the sweeps for


def wanted(kind):
    """Return the names of `figures` or `tables` that the config asks for; a missing sweep is an error by name."""
    return catalog.wanted(kind, config)


def figure_files():
    """Return every figure of the preset."""
    return [f"results/{PRESET}/figures/{name}.{end}" for name in wanted("figures") for end in ("svg", "png", "csv")]


def table_files():
    """Return every table of the preset."""
    return [f"results/{PRESET}/tables/{name}.{end}" for name in wanted("tables") for end in ("csv", "md")]


def needs_of_preset():
    """Return the catalog entries of every figure and table of the preset."""
    return [catalog.FIGURES[name] for name in wanted("figures")] + [catalog.TABLES[name] for name in wanted("tables")]


def law_files():
    """Return every law of the preset."""
    return [f"results/{PRESET}/laws/{law}.json" for law in catalog.all_laws(needs_of_preset())]


def evaluation_files():
    """Return every evaluated sweep of the preset."""
    names = sorted({name for needs in needs_of_preset() for name in needs.evaluations})
    return [f"results/{PRESET}/evaluations/{name}.parquet" for name in names]


def curve_files():
    """Return the curve of every run that a figure or table of the preset needs."""
    sweeps = catalog.all_sweeps(needs_of_preset())
    return sorted({f"results/runs/{member.run.id}/curve.parquet" for name in sweeps for member in SWEEPS[name]})
