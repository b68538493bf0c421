"""The installed programs, started as processes: HTTP answers, signals and files."""

import contextlib
import datetime
import logging
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import requests
import tensorflow as tf
import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from components.registry.manifest import Manifest
from model import export
from model.training import loop
from tests.support import training
from tests.support.configs import demo_train
from tests.support.pushes import push_next
from tests.support.report_page import PNG, PageReader, make_facts
from tests.support.report_runs import COMPLETE, Runs

BIN = pathlib.Path(sys.executable).parent
PIPELINE = str(BIN / "vae-pipeline")
SECONDS = 120  # the time-out of a program that prints nothing


class Place:
    """A root with results of a small training: TensorBoard's files and a version."""

    def __init__(self, path):
        self.path = path
        training.write_digits(path)
        self.logs = path / "runs" / "artifacts" / "Trainer" / "model_run"
        files = training.files(
            path, path / "scratch", log_dir=str(self.logs / "7" / "tensorboard")
        )
        config = demo_train(epochs=2, batch_size=20, learning_rate=1e-2, replicas=1)
        vae = loop.train(training.MODEL, config, files=files, evaluation_seed=0).vae
        export.export(vae, str(path / "model"), samples=1, seed=0)
        destination = str(path / "runs" / "serving" / "vae")
        self.version = push_next(
            str(path / "model"),
            destination=destination,
            manifest=Manifest.from_content({}),
        )


@pytest.fixture(scope="module")
def reported():
    """Yields the list of epoch reports that the training of `place` logs."""
    kept = []

    class Handler(logging.Handler):
        def emit(self, record):
            if progress := getattr(record, "progress", None):
                kept.append(progress)

    logger, handler = (
        logging.getLogger("model.training.progress"),
        Handler(logging.INFO),
    )
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield kept
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(scope="module")
def place(tmp_path_factory, reported):
    return Place(tmp_path_factory.mktemp("place"))


@contextlib.contextmanager
def started(*command, **environment):
    """Yields a process with both outputs in one stream, and kills it at the end."""
    with subprocess.Popen(
        [*map(str, command)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        env={**os.environ, **environment},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(process, pattern):
    """Reads a program's lines until one matches a pattern; returns the match."""
    printed = ""
    for line in process.stdout:
        printed += line
        if found := re.search(pattern, line):
            return found
    raise AssertionError(printed)


def run(*command, **options):
    """Runs a program, asserts that it succeeds, and returns what it printed."""
    result = subprocess.run(
        [*map(str, command)],
        capture_output=True,
        encoding="utf-8",
        timeout=SECONDS,
        check=False,
        **options,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_tensorboard_serves_what_a_training_wrote(place, reported):
    command = (BIN / "tensorboard", "--logdir", place.logs, "--port", "0")
    with started(*command, "--host", "127.0.0.1") as process:
        url = read(process, r"at (http://127\.0\.0\.1:\d+/)")[1]
        deadline, name = time.monotonic() + SECONDS, "7/tensorboard/eval"
        while True:
            answer = requests.get(f"{url}data/plugin/scalars/tags", timeout=30)
            tags = answer.json()
            if {"elbo", "kl", "reconstruction"} <= set(tags.get(name, ())):
                break
            assert time.monotonic() < deadline, tags
            time.sleep(0.1)  # the program reads the files while it answers requests
        assert "learning_rate" in tags["7/tensorboard/train"]
        query = {"tag": "elbo", "run": name}
        answer = requests.get(f"{url}data/plugin/scalars/scalars", query, timeout=30)
    series = [(step, value) for _, step, value in answer.json()]
    assert [step for step, _ in series] == [1, 2]
    expected = [progress.eval_elbo for progress in reported]
    np.testing.assert_allclose([value for _, value in series], expected, rtol=1e-6)


def test_serve_answers_as_the_model_that_was_exported(place):
    command = (PIPELINE, "serve", "--root", place.path / "runs", "--port", "0")
    images = np.zeros([2, 28, 28, 1], np.float32)
    images[0, 6:14, 6:22] = 1.0
    with started(*command) as process:
        url = read(process, r"listening on (http://127\.0\.0\.1:\d+)/v1/models/vae")[1]
        read(process, f"serving version {place.version.number} of ")
        assert requests.get(f"{url}/healthz", timeout=30).status_code == 200
        assert requests.get(f"{url}/readyz", timeout=30).status_code == 200
        body = {"signature_name": "reconstruct", "instances": images.tolist()}
        answer = requests.post(f"{url}/v1/models/vae:predict", json=body, timeout=60)
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0
    assert answer.status_code == 200, answer.text
    found = [row["mean"] for row in answer.json()["predictions"]]
    # In float32, as exported: the training may have used bfloat16.
    reconstruct = tf.saved_model.load(place.version.path).signatures["reconstruct"]
    expected = reconstruct(images=tf.constant(images))["mean"]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert np.ptp(expected) > 0.01  # the model has learned something


def test_schedule_waits_for_its_time_and_stops_at_sigterm(tmp_path):
    flags = ("--root", tmp_path / "runs", "--data-dir", tmp_path / "data")
    command = (PIPELINE, "schedule", "--local", "--cron", "0 3 1 1 *", *flags)
    with started(*command, "--timezone", "UTC") as process:
        found = read(process, r"scheduled: (.*); next (\d{4})-01-01 03:00:00 UTC")
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read().endswith("  stopped by SIGTERM\n")
        assert process.wait(SECONDS) == 0
    now = datetime.datetime.now(datetime.timezone.utc)
    assert int(found[2]) - now.year in (0, 1)
    # The command that it would start works.
    printed = run(*shlex.split(found[1]), "--print-config", cwd=tmp_path)
    assert yaml.safe_load(printed)["data"]["dataset"] == "mnist"


def test_report_writes_the_page_of_the_last_run(tmp_path):
    runs = Runs(tmp_path, facts=make_facts(), picture=PNG)
    runs.add("run-1", {"Ingest": COMPLETE, "Report": COMPLETE})
    page = pathlib.Path(run(PIPELINE, "report", "--root", tmp_path).strip())
    assert page == tmp_path / "reports" / "run-1" / "report.html"
    assert "run-1, 2019-03-08" in PageReader(page.read_text(encoding="utf-8")).text


def test_compile_writes_a_pipeline_spec(tmp_path):
    output = tmp_path / "pipeline.yaml"
    settings = [
        *("--set", "push.destination=s3://models/serving"),
        *("--set", "kubeflow.pipeline_root=minio://mlpipeline/vae"),
        *("--set", "kubeflow.data_dir=/tmp/tfds"),
    ]
    image = "registry.example/vae-pipeline@sha256:0123"
    flags = ("--image", image, "--output", output, "--root", tmp_path / "runs")
    run(PIPELINE, "compile", *flags, *settings)
    spec, *_ = yaml.safe_load_all(output.read_text(encoding="utf-8"))
    parsed = json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
    assert parsed.schema_version == "2.1.0"
    assert len(parsed.root.dag.tasks) == 16
    executors = parsed.deployment_spec["executors"]
    assert {each["container"]["image"] for each in executors.values()} == {image}
