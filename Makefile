# `make` lists what there is to do. Each command first sets up what it needs in .venv; a second call finds it there.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:

PYTHON = python3 python3.13 python3.12 python3.11
ifdef PORT # of MLflow's UI, and of the links to it
export MLFLOW_PORT = $(PORT)
endif
FLAGS = $(if $(DATA),--data "$(DATA)") $(ARGS)

# A pipeline is a folder, as for `pipelines list`: a new one needs no line here.
NAMES := $(filter-out core,$(patsubst pipelines/%/__init__.py,%,$(wildcard pipelines/*/__init__.py)))
VERBS := evaluate predict serve history promote send
BENCHES := $(patsubst bench/%.py,bench-%,$(filter-out %/__init__.py,$(wildcard bench/*.py)))

GPU := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu $(filter jax,$(KERAS_BACKEND)))
LOCKS := requirements.lock $(GPU:%=requirements-%.lock)
INSTALLED := $(shell cat .venv/installed 2>/dev/null)

.PHONY: help train ui audit test test-all lint doctor lock clean FORCE $(NAMES) $(VERBS) $(BENCHES)

help:
	@sed -n 's/^## /make /p' Makefile
	@echo 'Pipelines: $(NAMES). DATA=demo, the name of a public data set, or a path; ARGS="--epochs 5" are further flags.'

## NAME        train one pipeline (DATA=, ARGS=)
$(NAMES): %: .venv/installed
	@.venv/bin/python -m pipelines train $* $(FLAGS)

## VERB        evaluate, predict, serve, history, promote or send for versions of one (NAME=fraud DATA= ARGS=)
$(VERBS): .venv/installed
	$(if $(NAME),,$(error which pipeline? make $@ NAME=fraud))
	@.venv/bin/python -m pipelines $@ $(NAME) $(FLAGS)

## bench-NAME  run its published protocol, side by side with baselines (DATA=, ARGS=)
$(BENCHES): bench-%: .venv/installed
	@.venv/bin/python -m bench.$* $(FLAGS)

## train       train every pipeline
train: $(NAMES)

## ui          open MLflow on the runs of this project (PORT=)
ui: .venv/installed
	@.venv/bin/python -m pipelines ui $(ARGS)

## audit       plant faults in small data, and print which the checks catch; ARGS="--clean NAME=PATH" tries clean data
audit: .venv/installed
	@.venv/bin/python -m bench.audit $(ARGS)

# Two processes, whole files to each, since the tests of a file share what is costly to make; in the order of names, by
# which the longest files come early.
TWO = -n 2 --dist loadfile --no-loadscope-reorder

## test        run the tests but the slow ones
test: .venv/installed
	@.venv/bin/python -m pytest $(TWO) $(ARGS)

## test-all    run all tests
test-all: .venv/installed
	@.venv/bin/python -m pytest $(TWO) -m '' $(ARGS)

## lint        check style, format, types and which room imports which
lint: .venv/installed
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy
	@.venv/bin/python -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' --no-logo --no-cache

## doctor      say whether this machine has what a run needs
doctor: .venv/installed
	@.venv/bin/python -m pipelines doctor

## lock        pin the dependencies of pyproject.toml anew (ARGS=--upgrade for the newest)
lock: .venv/installed
	@$(COMPILE) --extra test --extra voices --extra export -o requirements.lock
	@$(COMPILE) --extra gpu -c requirements.lock -o requirements-gpu.lock
	@$(COMPILE) --extra jax -c requirements.lock -c requirements-gpu.lock -o requirements-jax.lock

## clean       delete .venv and caches; data/ and mlruns/ stay
clean:
	rm -rf .venv build *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find pipelines bench tests -name __pycache__ -type d -prune -exec rm -rf {} +

.DEFAULT:
	@echo 'error: `make` knows no "$@"; it knows the pipelines $(NAMES), and what plain `make` lists.' >&2; exit 2

# .venv/installed says which locks were installed completely. Without it the environment is made from scratch, so an
# interrupted set-up does no harm.
.venv/installed: $(LOCKS) $(if $(filter-out $(INSTALLED),$(LOCKS)),FORCE)
	@[ -e $@ ] || { $(MAKE_VENV); }
	@rm -f $@
	@$(UV) pip sync --python .venv/bin/python --require-hashes $(LOCKS)
	@echo $(LOCKS) > $@

MAKE_VENV = wrong=; bare=; for python in $(PYTHON); do \
		version=$$($$python -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || continue; \
		case $$version in 3.11|3.12|3.13) ;; *) wrong="$$wrong $$version"; continue;; esac; \
		$$python -c 'import ensurepip, venv' 2>/dev/null || { bare="$$version"; continue; }; \
		echo "Setting up .venv with Python $$version; this happens once."; \
		$$python -m venv --clear .venv && \
		sed -n '/^uv==/,/[^\]$$/p' requirements.lock > .venv/uv.txt && \
		exec .venv/bin/python -m pip install --quiet --require-hashes -r .venv/uv.txt; \
		exit 1; \
	done; \
	if [ "$$bare" ]; then \
		echo "error: Python $$bare lacks its venv module: sudo apt install python$$bare-venv" >&2; \
	else \
		echo "error: Python 3.11, 3.12 or 3.13 is needed, found$${wrong:- none}: install one (sudo apt install python3" \
			"python3-venv, or brew install python@3.13) or name it with make PYTHON=/path/to/python" >&2; \
	fi; \
	exit 1

# uv does not read pip's settings, so the index is passed on. Extra indexes are not: everything locked is on the main
# one, and uv takes a release from the first index that has it, even if only the wrong wheel is there.
PIP_INDEX = $$(.venv/bin/python -m pip config list | sed -n "s/^[^=]*[.]index-url='\(.*\)'$$/\1/p" | head -n 1)
UV = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX:-$(PIP_INDEX)}" .venv/bin/python -m uv
COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate --fork-strategy fewest --custom-compile-command 'make lock' $(ARGS) pyproject.toml
