"""The settings and the push destination that the flags determine."""

import pytest

from pipeline.cli import main, options
from pipeline.config.loading import ConfigError


def parse(*arguments):
    return main.build_parser().parse_args(arguments)


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
    assert options.settings(parse("run")) == []
    assert options.resolve(parse("run")).train.warm_start is False


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("mnist", "data.source=mnist"),
        ("a b", "data.source=a b"),
        ("7", 'data.source="7"'),
        ("null", 'data.source="null"'),
        ("a: b", 'data.source="a: b"'),
    ],
)
def test_a_setting_is_quoted_where_yaml_would_read_another_value(value, expected):
    assert options.format_setting("data.source", value) == expected


def test_versions_are_below_the_root_unless_the_settings_say_otherwise(tmp_path):
    args = parse("versions", "--root", str(tmp_path))
    resolved = options.resolve(args)
    assert options.destination(args, resolved) == f"{tmp_path}/serving/vae"
    args = parse("versions", "--set", "push.destination=s3://models/serving")
    resolved = options.resolve(args)
    assert options.destination(args, resolved) == "s3://models/serving/vae"


@pytest.mark.parametrize("name", ["digits.png", "folder/DIGITS.PNG"])
def test_a_picture_may_be_any_png(name):
    options.check_picture_option(parse("generate", "-o", name))


def test_a_picture_of_another_kind_is_refused():
    with pytest.raises(ConfigError) as error:
        options.check_picture_option(parse("generate", "-o", "digits.gif"))
    assert str(error.value) == "--output must be the name of a .png, got digits.gif"


def test_a_home_folder_is_put_in_place_of_its_sign(monkeypatch):
    monkeypatch.setenv("HOME", "/home/ada")
    assert parse("history", "--root", "~/runs").root == "/home/ada/runs"
