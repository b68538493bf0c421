"""The settings and the push destination that the flags determine."""

import pytest

from pipeline.cli import options
from pipeline.config.loading import resolve
from tests.support.command_line import parse


def test_flags_are_settings_over_those_of_set():
    args = parse(
        *("run", "--set", "data.dataset=kmnist", "--set", "train.replicas=1"),
        *("--dataset", "digits", "--source", "in/span-{SPAN}", "--span-window", "3"),
        *("--replicas", "2", "--warm-start"),
    )
    resolved = options.resolve(args)
    assert (resolved.data.dataset, resolved.data.source) == ("digits", "in/span-{SPAN}")
    assert resolved.data.span_window == 3
    assert resolved.train.replicas == 2
    assert resolved.train.warm_start is True


def test_without_flags_the_preset_decides():
    assert parse("run").overrides() == {}
    assert options.resolve(parse("run")).train.warm_start is False


# YAML would read each of these texts as something else.
TEXTS = ["null", "~", "1e3", "[a]", "true", "my data #2", "a: b", "'a'", '"', ""]


@pytest.mark.parametrize(
    ("option", "text"),
    [
        *(("dataset", text) for text in TEXTS),
        *(("source", text) for text in TEXTS if text),  # a source is never empty
    ],
)
def test_an_option_is_literal_text(option, text, monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    resolved = options.resolve(parse("run", f"--{option}", text))
    assert getattr(resolved.data, option) == text


@pytest.mark.parametrize("text", [*TEXTS, "'it''s'", "'it's'", "-x", "a\tb"])
def test_a_text_survives_set(text):
    setting = options.format_setting("data.dataset", text)
    assert resolve("demo", settings=[setting]).data.dataset == text


def test_versions_are_below_the_root_by_default(tmp_path):
    args = parse("versions", "--root", str(tmp_path))
    resolved = options.resolve(args)
    assert options.destination(args, resolved) == f"{tmp_path}/serving/vae"
    args = parse("versions", "--set", "push.destination=s3://models/serving")
    resolved = options.resolve(args)
    assert options.destination(args, resolved) == "s3://models/serving/vae"


def test_a_home_folder_replaces_the_tilde(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse("history", "--root", "~/runs").root == "/home/ada/runs"
