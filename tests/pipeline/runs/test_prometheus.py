"""Metrics, read by Prometheus's own parser and sent over real HTTP."""

import dataclasses
import datetime
import pathlib
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
from prometheus_client import parser

from pipeline.cli import main
from pipeline.config.loading import ConfigError
from pipeline.runs import prometheus, run_record
from tests.support.records import make_pushed_record, make_record


def samples(text):
    """Returns values by name and labels; asserts that each name has type and help."""
    found = {}
    for family in parser.text_string_to_metric_families(text):
        assert (family.type, bool(family.documentation)) == ("gauge", True)
        for sample in family.samples:
            key = (sample.name, *sorted(sample.labels.items()))
            assert key not in found
            found[key] = sample.value
    return found


MODEL = ("model", "vae")

END = datetime.datetime(2026, 11, 23, 18, tzinfo=datetime.timezone.utc).timestamp()

EXPECTED = {
    ("vae_pipeline_last_run_end_timestamp_seconds", MODEL): END + 0.5,
    ("vae_pipeline_last_run_seconds", MODEL): 61.25,
    ("vae_pipeline_elbo_nats", MODEL): -271.25,
    ("vae_pipeline_baseline_elbo_nats", MODEL): -280.5,
    ("vae_pipeline_independent_pixels_nats", MODEL): -206.25,
    ("vae_pipeline_served_version", MODEL): 1795457098.0,
    ("vae_pipeline_versions", MODEL): 3.0,
    (
        "vae_pipeline_step_seconds",
        *(("cached", "false"), MODEL, ("step", "Trainer")),
    ): 12.5,
    (
        "vae_pipeline_step_seconds",
        *(("cached", "true"), MODEL, ("step", "Ingest")),
    ): 0.25,
    **{
        ("vae_pipeline_last_run_verdict", MODEL, ("verdict", word)): float(
            word == "pushed"
        )
        for word in (
            *("pushed", "unchanged", "refused", "failed", "bad_data", "interrupted"),
        )
    },
}


def test_the_text_file_has_the_values_of_the_record(tmp_path):
    path = tmp_path / "vae.prom"
    path.write_text("old")
    prometheus.write_metrics(path, make_pushed_record())
    assert samples(path.read_text()) == EXPECTED
    # the file was written beside the old one, and then renamed
    assert list(tmp_path.iterdir()) == [path]


def test_unknown_values_are_left_out(tmp_path):
    failed = make_record(
        status="failed", ended="2026-11-23T19:00:00.500+01:00", seconds=1.0
    )
    prometheus.write_metrics(tmp_path / "vae.prom", failed)
    names = {key[0] for key in samples((tmp_path / "vae.prom").read_text())}
    assert names == {
        "vae_pipeline_last_run_end_timestamp_seconds",
        "vae_pipeline_last_run_verdict",
        "vae_pipeline_last_run_seconds",
    }


def get(port):
    url = f"http://127.0.0.1:{port}/metrics"
    with urllib.request.urlopen(url, timeout=30) as answer:
        return samples(answer.read().decode())


def test_over_http_it_is_the_newest_run_that_ended(tmp_path):
    with prometheus.serve_metrics(tmp_path, host="127.0.0.1", port=0) as port:
        assert get(port) == {}
        older = dataclasses.replace(
            make_pushed_record("run-1"), ended="2026-11-23T18:59:59+01:00", elbo=-1.0
        )
        run_record.write(tmp_path, older)
        run_record.write(tmp_path, make_pushed_record("run-2"))
        run_record.write(tmp_path, make_record("run-3"))  # a run that has not ended
        assert get(port) == EXPECTED
    with pytest.raises(urllib.error.URLError):
        get(port)


def test_an_address_in_use_is_named(tmp_path):
    with socket.socket() as in_use:
        in_use.bind(("127.0.0.1", 0))
        in_use.listen()
        port = in_use.getsockname()[1]
        with (
            pytest.raises(ConfigError) as error,
            prometheus.serve_metrics(tmp_path, host="127.0.0.1", port=port),
        ):
            pass
    assert str(error.value).startswith(
        "--metrics-port and --metrics-host must be a free address, got "
        f"127.0.0.1:{port}: [Errno 98] Address already in use"
    )


def test_an_invalid_port_is_named(tmp_path, capsys):
    code = main.main(
        [
            *("schedule", "--local", "--cron", "0 3 * * *", "--metrics-port", "70000"),
            *("--root", str(tmp_path)),
        ]
    )
    assert code == 2
    assert "must be a free address, got 127.0.0.1:70000" in capsys.readouterr().err


def test_the_local_scheduler_serves_them(tmp_path):
    run_record.write(tmp_path, make_pushed_record())
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", "schedule", "--local"),
            *("--cron", "0 3 1 1 *", "--metrics-port", "0", "--root", str(tmp_path)),
        ],
        stdout=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
    )
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"metrics: http://127\.0\.0\.1:(\d+)/metrics\n", line)
        assert "scheduled: " in process.stdout.readline()
        assert get(found[1]) == EXPECTED
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0
    finally:
        process.kill()
        process.communicate()
