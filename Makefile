# Every target sets up what it needs; `make run` on a clone that is set up starts at once.

.PHONY: help setup run test lint bench lock clean

ARGS ?=

help:
	@echo "make setup   make .venv (the other targets do so when they have to)"
	@echo "make run     run the whole pipeline here; ARGS='--preset smoke' for options"
	@echo "make test    lint, types and every test"
	@echo "make lint    format, lint and types alone"
	@echo "make bench   speed, as ratios to a baseline"
	@echo "make lock    resolve requirements.lock anew from setup.py"
	@echo "make clean   remove .venv and .tools, but no data and no runs"

setup: .venv/ready

.venv/ready: requirements.lock setup.py .ci/setup
	@.ci/setup

run: .venv/ready
	@.venv/bin/vae-pipeline run $(ARGS)

test: lint
	.venv/bin/python -m pytest $(ARGS)

lint: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy

bench: .venv/ready
	.venv/bin/python -m tests.benchmarks.steps

lock: .venv/ready
	.venv/bin/uv pip compile --quiet --universal --python-version 3.10 \
	    --generate-hashes --no-header --extra dev setup.py --output-file requirements.lock

clean:
	rm -rf .venv .tools *.egg-info .mypy_cache .pytest_cache .ruff_cache
