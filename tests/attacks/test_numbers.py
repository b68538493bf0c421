"""Attacks with numbers: infinities, NaN, and sizes that no machine has."""

import dataclasses
import typing

import pytest

from pipeline.config.loading import PipelineConfig

pytestmark = pytest.mark.attacks


def _fields(kind: type) -> list[str]:
    """Returns the names of all settings with a type, such as gate.tolerance."""
    found = []
    for section, fields in typing.get_type_hints(PipelineConfig).items():
        hints = typing.get_type_hints(fields)
        for field in dataclasses.fields(fields):
            kinds = typing.get_args(hints[field.name]) or (hints[field.name],)
            if kind in kinds:
                found.append(f"{section}.{field.name}")
    return found


INFINITIES = [".inf", ".nan", "1e999"]
TWINS = ["inf", "Infinity", "NaN", "1e", "0x", "1_0", "٣", "[1]", "true", "''", "1,5"]


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("value", INFINITIES)
@pytest.mark.parametrize("setting", _fields(float))
def test_an_infinity(refuse, setting, value):
    refuse(["run", "--print-config", "--set", f"{setting}={value}"], setting)


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("value", TWINS)
@pytest.mark.parametrize("setting", ["gate.tolerance", "train.learning_rate"])
def test_a_text_that_is_almost_a_number(refuse, setting, value):
    refuse(["run", "--print-config", "--set", f"{setting}={value}"], setting)


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("value", [".inf", "0x8000000000000000"])
@pytest.mark.parametrize("setting", _fields(int))
def test_a_whole_number_that_is_none(refuse, setting, value):
    refuse(["run", "--print-config", "--set", f"{setting}={value}"], setting)


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("field", ["cpu", "memory", "gpus"])
@pytest.mark.parametrize("value", [".inf", ".nan", "1e999", "-1"])
def test_the_resources_of_a_step(refuse, field, value):
    setting = f"kubeflow.steps={{Trainer: {{{field}: {value}}}}}"
    refuse(["run", "--print-config", "--set", setting], "kubeflow.steps.Trainer")


OPTIONS = [
    ("serve", "--poll"),
    ("serve", "--grace"),
    ("serve", "--max-body"),
    ("serve", "--max-delay"),
    ("serve", "--port"),
    ("serve", "--max-batch"),
    ("serve", "--max-images"),
    ("versions", "--span-window"),
    ("history", "-n"),
    ("generate", "--version"),
    ("run", "--replicas"),
]


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("value", ["inf", "nan", "1e999", "1" * 5_000])
@pytest.mark.parametrize(("command", "option"), OPTIONS)
def test_the_number_of_an_option(refuse, command, option, value):
    refuse([command, option, value])


LONG = ["25000000", "1e10", "1e300", "999999999999999999"]


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("value", LONG)
@pytest.mark.parametrize("setting", ["notify.timeout", "gate.infra_timeout"])
def test_a_time_that_no_system_call_can_wait(refuse, setting, value):
    refuse(["run", "--print-config", "--set", f"{setting}={value}"], setting)


ADDRESSES = ["", " ", "[::1", "::g", "a" * 64, "..", "256.0.0.1", "nothing.invalid"]


@pytest.mark.line("number that is not finite")
@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_to_listen_on(refuse, address):
    if address:  # the empty address means all
        refuse(["serve", "--port", "0", f"--host={address}"], "--host")
    cron = ("--cron", "* * * * *", "--metrics-port", "99999")
    refuse(["schedule", "--local", *cron, f"--metrics-host={address}"], "--metrics")
