"""The commands that the program prints, each pasted into a shell."""

import csv
import dataclasses
import os
import pathlib
import re
import shlex
import signal
import subprocess
import sys

import pytest
import tf_keras as tfk

from components.registry.manifest import Manifest
from model import export
from model.vae import VAE
from pipeline.cli import main, options, printed_commands
from pipeline.config import loading
from tests.support import bars
from tests.support.command_line import parse
from tests.support.configs import demo_model
from tests.support.pushes import push_next

NAME = "my digits"  # value of push.model_name
BIN = os.path.dirname(sys.executable)


def next_commands(args, destination, is_served=True):
    """Returns purpose -> command line, for the commands printed after a run."""
    found = printed_commands.next_commands(
        args, options.resolve(args), destination=destination, is_served=is_served
    )
    return dict(found)


@dataclasses.dataclass
class Place:
    """A folder to run in, with a root and data whose paths need quotes."""

    path: pathlib.Path

    @property
    def arguments(self):
        return [
            *("--preset", "smoke", "--dataset", "bars"),
            *("--root", str(self.path / """it's "a b" $HOME""")),
            *("--data-dir", "the data/#1"),
            *("--source", str(self.path / "it's: #2")),
            *("--config", str(self.path / "my config.yaml")),
            *("--set", f"push.model_name={NAME}", "--set", "data.limit=null"),
        ]

    @property
    def args(self):
        return parse("run", *self.arguments)

    @property
    def destination(self):
        return f"{self.args.root}/serving/{NAME}"

    def commands(self):
        """Returns purpose -> command line, for the commands printed after a run."""
        lines = next_commands(self.args, self.destination)
        assert len(lines) == 6
        return lines

    def paste(self, line, *more, code=0):
        """Runs a line with more arguments in a shell; returns the shell's output."""
        line = " ".join([line, *map(shlex.quote, more)])
        result = subprocess.run(
            ["sh", "-c", line], cwd=self.path, capture_output=True, text=True
        )
        assert result.returncode == code, result.stdout + result.stderr
        return result.stdout + result.stderr

    def paste_until(self, line, pattern, *more):
        """Runs a line in a shell, and stops it when its output matches a pattern."""
        line = " ".join(["exec", line, *map(shlex.quote, more)])
        with subprocess.Popen(
            ["sh", "-c", line],
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            printed = ""
            for printed_line in process.stdout:
                printed += printed_line
                if re.search(pattern, printed):
                    break
            process.send_signal(signal.SIGTERM)
        assert re.search(pattern, printed), printed


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = Place(tmp_path_factory.mktemp("place"))
    bars.write_idx(pathlib.Path(place.args.source), labels=range(10))
    pathlib.Path(place.args.config).write_text(
        "data: {eval_images: 200}\n", encoding="utf-8"
    )
    tfk.utils.set_random_seed(0)
    size = {"latent_size": 2, "hidden_units": 8}
    export.export(VAE(demo_model(**size)), str(place.path / "model"), samples=1, seed=0)
    settings = [f"model.{field}={value}" for field, value in size.items()]
    decisive = loading.decisive(loading.resolve("demo", settings=settings))
    push_next(
        str(place.path / "model"),
        destination=place.destination,
        manifest=Manifest.from_content(
            {"config": decisive, "data_fingerprint": "none"}
        ),
    )
    return place


@pytest.fixture
def place(made, monkeypatch):
    monkeypatch.chdir(made.path)
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # a PATH without the program
    return made


def options_of(words):
    """Returns the options that the real parser reads from a command line's words."""
    program, *arguments = words
    assert program == os.path.join(BIN, "vae-pipeline")
    return parse(*arguments)


def test_each_is_parsed_with_the_options_of_the_run(place):
    of_run = vars(place.args)
    for purpose, line in place.commands().items():
        words = shlex.split(line)
        if words[0] == "docker":
            mount = words[words.index("--mount") + 1]
            (fields,) = csv.reader([mount])
            assert f"source={place.destination}" in fields
            assert f"target=/models/{NAME}" in fields
            assert f"--model_base_path=/models/{NAME}" in words
        elif words[0].endswith("tensorboard"):
            logdir = os.path.join(place.args.root, "artifacts", "Trainer", "model_run")
            assert words[1:] == ["--logdir", logdir]
        else:
            args = options_of(words)
            assert args.root == place.args.root
            resolved = options.resolve(args)
            assert resolved.push.model_name == NAME
            if purpose in ("a better model", "nearer to log p(x)"):
                for name in ("data_dir", "dataset", "source", "config", "set"):
                    assert getattr(args, name) == of_run[name], name
                assert resolved.data == options.resolve(place.args).data


def test_generate(place):
    line = place.commands()["new digits, in digits.png"]
    assert "digits.png: 2 modes" in place.paste(line, "-n", "2")
    assert (place.path / "digits.png").exists()


def test_serve(place):
    line = place.commands()["over HTTP, as TensorFlow Serving does"]
    place.paste_until(line, "serving version [0-9]+ of", "--port", "0")


def test_tensorboard(place):
    line = place.commands()["the curves of the training"]
    place.paste_until(line, r"TensorBoard .* at http://", "--port", "0")


def test_run(place):
    line = place.commands()["a better model"]
    printed = place.paste(line, "--print-config")
    assert f"model_name: {NAME}\n" in printed
    assert "eval_images: 200\n" in printed
    assert "network: conv_residual\n" in printed  # from the better preset


def test_evaluate(place):
    line = place.commands()["nearer to log p(x)"]
    printed = place.paste(line, "--iwae", "2", "--limit", "5")
    assert "the first 5" not in printed
    assert "2 samples of z per image, fixed binarization, seed 0, 5 images" in printed
    assert (place.path / place.args.data_dir / "bars").is_dir()


def test_a_plain_name_is_served_as_the_image_documents():
    assert printed_commands.docker_line("/a:b/c,d", "digits-2") == (
        "docker run -p 8501:8501 --mount "
        "'type=bind,\"source=/a:b/c,d\",target=/models/digits-2,readonly' "
        "-e MODEL_NAME=digits-2 tensorflow/serving"
    )


def test_defaults_are_left_out(monkeypatch):
    monkeypatch.setenv("PATH", f"/usr/bin:{BIN}")
    args = parse("run")
    assert list(next_commands(args, "/s/vae").values()) == [
        "vae-pipeline generate",
        "vae-pipeline serve",
        "docker run -p 8501:8501 --mount "
        "type=bind,source=/s/vae,target=/models/vae,readonly -e MODEL_NAME=vae "
        "tensorflow/serving",
        "tensorboard --logdir runs/artifacts/Trainer/model_run",
        "vae-pipeline run --preset ten_minutes",
        "vae-pipeline evaluate --iwae 1000",
    ]


@pytest.mark.parametrize(
    ("preset", "better"),
    [
        ("smoke", []),
        ("blog", []),
        ("five_minutes", ["--preset", "ten_minutes"]),
        ("ten_minutes", ["--preset", "one_hour"]),
        ("one_hour", None),
    ],
)
def test_a_preset_that_reaches_more_is_next(preset, better):
    args = parse("run", "--preset", preset)
    line = next_commands(args, "/s/vae", is_served=False).get("a better model")
    assert (line and shlex.split(line)[2:]) == better


@pytest.mark.parametrize(
    ("destination", "folder"),
    [
        ("/serving/vae", "/serving/vae"),
        ("file:///serving/vae", "/serving/vae"),
        ("s3://bucket/vae", None),
    ],
)
def test_a_folder_of_versions_can_be_served(destination, folder):
    args = parse("run")
    docker = next_commands(args, destination).get("TensorFlow Serving itself")
    assert (docker is not None) == (folder is not None)
    assert docker is None or f"source={folder}," in docker
    assert list(next_commands(args, destination, is_served=False)) == [
        *("the curves of the training", "a better model", "nearer to log p(x)")
    ]


def test_another_program_of_that_name_on_the_path_is_not_this_one(
    tmp_path, monkeypatch
):
    other = tmp_path / "vae-pipeline"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert shlex.split(printed_commands.line("serve")) == [
        f"{BIN}/vae-pipeline",
        "serve",
    ]


def test_the_program_below_the_current_folder_is_named_from_there(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "my venv" / "python"))
    (tmp_path / "my venv").mkdir()
    (tmp_path / "my venv" / "vae-pipeline").symlink_to(f"{BIN}/vae-pipeline")
    monkeypatch.chdir(tmp_path)
    assert printed_commands.line("serve") == "'my venv/vae-pipeline' serve"
    monkeypatch.chdir(tmp_path / "my venv")
    assert printed_commands.line("serve") == "./vae-pipeline serve"


def test_a_program_that_is_nowhere_is_a_module(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(sys, "argv", ["pytest"])
    assert printed_commands.program() == [str(tmp_path / "python"), "-m", "pipeline"]


@pytest.mark.parametrize("value", ["-x", "a b", "~x", "it's #1: y", "{a}", "null", "7"])
def test_values_of_options_come_through(value):
    args = parse("run", f"--source={value}" if value[0] != "~" else "--source=./~x")
    words = shlex.split(
        printed_commands.line("run", *printed_commands.options_in_force(args, "source"))
    )
    again = parse(*words[words.index("run") :])
    assert again.source == args.source
    assert options.resolve(again).data.source == args.source


@pytest.mark.parametrize("kind", ["crontab", "systemd"])
def test_what_starts_the_runs_on_time(place, capsys, kind):
    arguments = ["schedule", "--print", kind, "--cron", "0 3 * * *", *place.arguments]
    assert main.main(arguments) == 0
    printed = capsys.readouterr().out
    if kind == "systemd":
        (line,) = re.findall("^ExecStart=(.*)$", printed, re.MULTILINE)
        words = _systemd_words(line)
    else:
        shell = printed.split(maxsplit=5)[5].replace(r"\%", "%")
        words = shlex.split(shell.rpartition(" && exec ")[2].rpartition(" >>")[0])
        logs = os.path.join(place.args.root, "logs")
        assert shlex.split(shell)[3:6] == ["mkdir", "-p", logs]
    args = options_of(words)
    assert args.if_changed
    assert os.path.isabs(words[0])
    assert args == dataclasses.replace(place.args, if_changed=True)


def _systemd_words(line):
    """Returns the words of an ExecStart line, split as systemd.service(5) describes."""
    words = re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)
    return [
        (re.sub(r"\\(.)", r"\1", quoted) or plain).replace("$$", "$").replace("%%", "%")
        for quoted, plain in words
    ]
