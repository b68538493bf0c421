# The project's commands. A target makes .venv first if that does not exist.

.PHONY: help setup always run test test-containers faults attacks soak nightly lint docs \
        bench bench-time bench-serve corruptions image sbom audit lock clean

# Variables for other Python or uv installations, which would break these.
unexport PYTHONHOME PYTHONOPTIMIZE PYTHONPATH PYTHONSTARTUP PYTHONWARNINGS \
         UV_REQUIRE_HASHES

ARGS ?=
IMAGE ?= vae-pipeline:dev
GPU ?= 0
ENGINE ?= $(shell docker info >/dev/null 2>&1 && echo docker || echo podman)

help:
	@echo "make setup   make .venv (the other targets do so if it is missing);"
	@echo "             STACK=compatible for TFX 1.16 even if 1.21 can be installed"
	@echo "make run     run the pipeline on this machine; ARGS='--preset smoke' adds options;"
	@echo "             make exits with 2 for every error: for the exit codes, call"
	@echo "             .venv/bin/vae-pipeline run"
	@echo "make test    run lint, the type checks and the tests"
	@echo "make test-containers"
	@echo "             build the image, and run the pipeline in it as Kubeflow does"
	@echo "make faults  test runs that are killed, and with full disks and damaged files"
	@echo "make attacks"
	@echo "             attack the command line with bad input; print what was tried, and held"
	@echo "make soak    kill 200 runs at random; ARGS='--runs 20 --seed 7' for fewer"
	@echo "make nightly run the long tests: see docs/reference/nightly.md"
	@echo "make lint    check the format, the code's style, the types and the imports"
	@echo "make docs    build the documentation in docs/_build/html; warnings are errors"
	@echo "make bench   measure speed as ratios to a baseline; 45 minutes or more"
	@echo "make bench-time"
	@echo "             measure only the time until a test -ELBO of 115 nats"
	@echo "make bench-serve"
	@echo "             measure the latency and the throughput of the server"
	@echo "make corruptions"
	@echo "             measure how far corrupted and honest data are from MNIST; 10 minutes"
	@echo "make image   build the image IMAGE=$(IMAGE) and run the unit tests inside it;"
	@echo "             GPU=1 for CUDA, ENGINE=podman or docker (default: docker if it works)"
	@echo "make sbom    print the packages in the image IMAGE, as CycloneDX JSON"
	@echo "make audit   check the locked packages for known vulnerabilities"
	@echo "make lock    resolve requirements*.lock and requirements-dev.txt from setup.py"
	@echo "make clean   remove .venv and .tools, but no data and no runs"

setup: .venv/ready

# STACK=compatible or STACK=current chooses the stack. A .venv of the other stack is
# replaced.
ifneq ($(STACK),)
ifneq ($(STACK),$(shell cat .venv/stack 2>/dev/null))
.venv/ready: always
endif
endif
always:

.venv/ready: requirements.lock setup.py .ci/setup
	@.ci/setup

run: .venv/ready
	@.venv/bin/vae-pipeline run $(ARGS)

test: lint
	.venv/bin/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder \
	    $(ARGS)

test-containers: .venv/ready
	.venv/bin/python -m pytest -m containers --numprocesses 2 --dist loadfile tests/kubeflow $(ARGS)

faults: .venv/ready
	.venv/bin/python -m pytest -m faults --show-capture=no --numprocesses 2 \
	    --dist loadfile tests/faults $(ARGS)

attacks: .venv/ready
	.venv/bin/python -m pytest -m attacks --show-capture=no --numprocesses 2 tests/attacks $(ARGS)

soak: .venv/ready
	.venv/bin/python -m tests.faults.soak $(ARGS)

nightly: soak image
	.venv/bin/python -m pytest -m nightly

lint: .venv/ready
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports --no-logo --no-cache
	.venv/bin/python .ci/plain_english.py pipeline components model deploy tests

docs: .venv/ready
	.venv/bin/sphinx-build -W --keep-going -n -q -b html docs docs/_build/html $(ARGS)

# Without these, TensorFlow prints lines between the tables.
bench bench-time bench-serve corruptions: export TF_CPP_MIN_LOG_LEVEL = 3
bench bench-time bench-serve corruptions: export PYTHONWARNINGS = ignore

bench: .venv/ready
	.venv/bin/python -m tests.benchmarks

bench-time: .venv/ready
	.venv/bin/python -m tests.benchmarks.time_to_115 $(ARGS)

bench-serve: .venv/ready
	.venv/bin/python -m tests.benchmarks.serve

corruptions: .venv/ready
	.venv/bin/python -m tests.benchmarks.corruptions $(ARGS)

image: BUILD = $(ENGINE) build --build-arg GPU=$(GPU) --build-arg \
    COMMIT=$(shell git describe --always --dirty --abbrev=12 --exclude='*')
image:
	$(BUILD) --tag $(IMAGE) .
	$(BUILD) --tag $(IMAGE)-test --target test .
	$(ENGINE) run --rm $(IMAGE)-test
	$(ENGINE) images $(IMAGE)

sbom:
	@$(ENGINE) run --rm $(IMAGE) cat /usr/share/sbom.cdx.json

audit: .venv/ready
	@.venv/bin/python .ci/audit.py

# Prints the names of locked packages, sorted and without duplicates.
NAMES = sed -nE 's/^([a-z0-9._-]+)(\[.*\])?==.*/\1/p' | LC_ALL=C sort --unique

lock: .venv/ready
	.venv/bin/uv pip compile --quiet --universal --python-version 3.10 \
	    --generate-hashes --no-header --extra dev setup.py --output-file requirements.lock
	.venv/bin/uv pip compile --quiet --universal --python-version 3.10 \
	    --no-header --no-annotate --constraint requirements.lock setup.py \
	    | $(NAMES) >.venv/runtime.txt
	<requirements.lock $(NAMES) | LC_ALL=C comm -23 - .venv/runtime.txt >requirements-dev.txt
	echo 'tensorflow[and-cuda]' | .venv/bin/uv pip compile --quiet - \
	    --python-version 3.13 --python-platform x86_64-manylinux_2_40 \
	    --generate-hashes --no-header --constraint requirements.lock \
	    $$(sed -nE 's/^([a-z0-9._-]+)(\[.*\])?==.*/--no-emit-package \1/p' requirements.lock) \
	    | awk '/^# The following packages were excluded/ { exit } NF' >requirements-gpu.lock

clean:
	rm -rf .venv .tools *.egg-info .mypy_cache .pytest_cache .ruff_cache docs/_build
