# Each target does all its own set-up: a virtual environment with the exact versions of requirements.lock.
PRESET ?= laptop
CORES ?= all
PYTHON ?= python3
VENV := .venv
READY := $(VENV)/.ready-$(shell cksum < requirements.lock | cut -d' ' -f1)

# Rules call `python`: the environment's own must come first.
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

# Snakemake needs a user's name, a home folder and a cache in it, which a container may not have; then they are these.
USER ?= $(shell id -u)
HOME ?= $(CURDIR)/.snakemake/home
export USER HOME
ifndef XDG_CACHE_HOME
export XDG_CACHE_HOME := $(shell mkdir -p "$(HOME)/.cache" 2>/dev/null && test -w "$(HOME)/.cache" && echo "$(HOME)/.cache" || echo "$(CURDIR)/.snakemake/cache")
endif

.PHONY: figures report plan test test-fast test-slurm faults lint bench readme lock clean

figures: $(READY)  ## the main job: every figure and table; PRESET=test for a quick look
	python -m pipeline.lock
	snakemake --cores $(CORES) figures --config preset=$(PRESET)

report: $(READY)  ## one self-contained report.html
	python -m pipeline.lock
	snakemake --cores $(CORES) report --config preset=$(PRESET)

plan: $(READY)  ## what the preset would cost
	snakemake plan --cores 1 --quiet host progress reason rules --config preset=$(PRESET)

test: $(READY) lint  ## everything: style, unit tests, and the test preset end to end
	OMP_NUM_THREADS=1 python -m pytest -q -n 2 --dist loadgroup -m "not slurm and not faults"

test-slurm: $(READY)  ## through a real Slurm of one node, which the test starts; needs slurmd, slurmctld and munge
	python -m pytest -q -m slurm

faults: $(READY)  ## an hour: the test preset killed KILLS times (100), on a full disk, with damaged files, twice at once
	OMP_NUM_THREADS=1 python -m pytest -q -rs -s -m faults

test-fast: $(READY)  ## under a minute
	OMP_NUM_THREADS=1 python -m pytest -q -n 2 -m "not slow and not slurm and not faults"

lint: $(READY)
	ruff format --check .
	ruff check .
	snakefmt --check Snakefile rules
	snakemake --lint

bench: $(READY)  ## speed of training against a plain loop, what is not steps, and the fits: benchmarks/results.json
	python -m benchmarks.training
	python -m benchmarks.overheads
	python -m benchmarks.laws

readme: $(READY)  ## fill the README's generated parts from the results of PRESET
	python -m pipeline.lock
	snakemake --cores $(CORES) readme --config preset=$(PRESET)

lock: $(READY)  ## write requirements.lock from what is installed
	python -m pip freeze --exclude-editable | grep -viE '^(nvidia|cuda|triton)' | sed 's/^\(torch==[0-9.]*\)+.*/\1/' > requirements.lock

$(READY): requirements.lock
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	rm -f $(VENV)/.ready-*
	touch $@

clean:  ## results and logs; the environment stays
	rm -rf results logs
