"""The command `serve`, as a process of its own."""

import concurrent.futures
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import pytest
import requests

from pipeline.cli import main
from tests.support.serving_http import Affine, place

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Returns a root with a model whose signature `sizes` takes half a second."""
    return make_root(tmp_path_factory.mktemp("root"), seconds=0.75)


def make_root(path, seconds):
    model = Affine(2.0, 1.0, seconds).export(path / "model")
    place(model, path / "serving" / "vae", 5)
    return path


class Process:
    """A process of `serve` on a free port, whose model answers slowly."""

    def __init__(self, root, *flags):
        command = [sys.executable, "-m", "pipeline", "serve", "--root", str(root)]
        self.process = subprocess.Popen(
            [*command, "--port", "0", *flags],
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        self.output = ""
        self.url = self.read(r"listening on (\S+)")[1]
        self.read(r"serving version 5 of ")

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.communicate()

    def read(self, pattern):
        """Reads the output until a line matches a pattern; returns the match."""
        for line in self.process.stderr:
            self.output += line
            if found := re.search(pattern, line):
                return found
        raise AssertionError(self.output)

    def stop(self, signum):
        """Sends a signal; returns the exit code and the whole output."""
        self.process.send_signal(signum)
        _, rest = self.process.communicate(timeout=60)
        return self.process.returncode, self.output + rest


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)]
)
def test_open_requests_are_answered_before_the_server_ends(root, signum, code):
    with (
        Process(root, "--max-batch", "1", "--access-log") as server,
        requests.Session() as idle,  # an idle connection must not delay the end
        concurrent.futures.ThreadPoolExecutor(4) as clients,
    ):
        assert idle.get(server.url, timeout=20).status_code == 200

        def ask(x):
            body = {"signature_name": "sizes", "instances": [x]}
            answer = requests.post(f"{server.url}:predict", json=body, timeout=60)
            return answer.status_code, answer.json()["predictions"][0]

        answers = [clients.submit(ask, float(x)) for x in range(4)]
        time.sleep(0.3)  # all four requests have arrived, and one at a time is computed
        assert not all(answer.done() for answer in answers)
        exit_code, output = server.stop(signum)
        got = [answer.result() for answer in answers]
        with pytest.raises(requests.ConnectionError):
            requests.get(server.url, timeout=5)
    assert got == [(200, {"size": 1.0, "x": float(x)}) for x in range(4)]
    assert exit_code == code, output
    assert f"{signum.name}: finishing the current requests, at most 30 s" in output
    assert output.count("POST /v1/models/vae:predict 200 ") == 4
    assert output.endswith("stopped\n")


def test_requests_that_take_longer_than_the_grace_are_cut_off(tmp_path):
    root = make_root(tmp_path, seconds=10.0)
    with (
        Process(root, "--grace", "0.1", "--model-name", "other") as server,
        concurrent.futures.ThreadPoolExecutor(1) as clients,
    ):
        assert server.url.endswith("/v1/models/other")
        body = {"signature_name": "sizes", "instances": [1.0] * 9}

        def ask():
            with pytest.raises(requests.ConnectionError):
                requests.post(f"{server.url}:predict", json=body, timeout=60)

        asked = clients.submit(ask)
        time.sleep(0.2)
        exit_code, output = server.stop(signal.SIGTERM)
        asked.result()
    assert exit_code == 0, output


def test_it_prints_its_own_lines_and_an_address_that_works_for_any_name(tmp_path):
    root = make_root(tmp_path, seconds=0.0)
    with Process(root, "--model-name", "modèle ?#%41") as server:
        (status,) = requests.get(server.url, timeout=20).json()["model_version_status"]
        assert (status["version"], status["state"]) == ("5", "AVAILABLE")
        _, output = server.stop(signal.SIGTERM)
    words = ["listening on", "serving version", "SIGTERM: finishing", "stopped"]
    lines = output.splitlines()
    assert len(lines) == len(words), output  # none is TensorFlow's
    assert all(word in line for word, line in zip(words, lines)), output


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-batch", "0"], "--max-batch must be at least 1, got 0"),
        (["--max-images", "-1"], "--max-images must be at least 1, got -1"),
        (["--max-delay", "-1"], "--max-delay must be from 0 to 1000 ms, got -1"),
        (["--port", "65536"], "--port must be from 0 to 65535, got 65536"),
        (["--model-name", "a/b"], "--model-name must be a name without / and :, got"),
        (["--model-name", ""], "--model-name must be a name without / and :, got ''"),
        (["--host", "no.such.host.invalid"], "--host and --port must be an address"),
        (
            ["--set", "push.destination=ftp://a/b"],
            "push.destination must be a folder or begin with minio://, s3://",
        ),
    ],
)
def test_bad_flags(flags, message, capsys):
    assert main.main(["serve", *flags]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--poll", "--max-body", "--grace"])
@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "1e999", "soon", ""])
def test_times_and_sizes_are_numbers_above_zero(flag, value, capsys):
    assert main.main(["serve", f"{flag}={value}"]) == 2
    assert capsys.readouterr().err == (
        f"vae-pipeline: {flag} must be a number above 0, got {value!r}\n"
    )


def test_a_port_in_use_is_named(capsys):
    with socket.socket() as in_use:
        in_use.bind(("127.0.0.1", 0))
        in_use.listen()
        port = in_use.getsockname()[1]
        assert main.main(["serve", "--port", str(port)]) == 2
    assert (
        "--host and --port must be an address of this machine that is free, got "
        f"127.0.0.1:{port}: Address already in use"
    ) in capsys.readouterr().err
