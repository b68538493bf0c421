"""The configuration: the settings of presets, config files and flags, merged."""

import dataclasses
import importlib.resources
import json
import os
import re
import sys
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

import pydantic
import yaml

from model.config import ModelConfig, TrainConfig
from model.errors import PipelineError
from pipeline.config import strict_yaml
from pipeline.config.names import find_nearest, suggest
from pipeline.config.notifications import MetricsConfig, NotifyConfig
from pipeline.config.sections import (
    DataConfig,
    GateConfig,
    KubeflowConfig,
    PushConfig,
    StepConfig,
)

NAME = "vae"  # the name of the pipeline
PRESETS = ("five_minutes", "ten_minutes", "one_hour", "demo", "blog", "smoke")
DEFAULT = "five_minutes"  # preset

# The floors of the presets and of the field are for this data set, except those of the
# presets whose models are too small for any floor but their own.
_DATASET_OF_FLOORS = "mnist"
_PRESETS_WITH_OWN_FLOOR = ("smoke",)

Value: TypeAlias = str | int | bool  # of an option for one setting


class ConfigError(PipelineError):
    """A setting is unknown, has the wrong type or is out of range."""

    is_bad_input = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class PipelineConfig:
    """The settings of a run, in sections."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    train: TrainConfig = TrainConfig()
    gate: GateConfig = GateConfig()
    push: PushConfig = PushConfig()
    kubeflow: KubeflowConfig = KubeflowConfig()
    notify: NotifyConfig = NotifyConfig()
    metrics: MetricsConfig = MetricsConfig()


# The sections that do not change what a run makes.
_INDECISIVE = ("kubeflow", "notify", "metrics")


def resolve(
    preset: str,
    file: str | None = None,
    *,
    settings: Sequence[str] = (),
    overrides: Mapping[str, Value] | None = None,
) -> PipelineConfig:
    """Returns the configuration from a preset, a config file and single settings.

    A field of the file replaces the field of the preset, a setting replaces both, and
    an override replaces all. A floor that none of them sets is auto for data other than
    MNIST, because the floor of the preset is for MNIST.

    Args:
      preset: one of PRESETS.
      file: a YAML file of sections, if any.
      settings: `section.field=value` each. The value of a text is literal, unless it
        is quoted; the value of any other field is YAML.
      overrides: values as they are, by `section.field`.

    Raises:
      ConfigError: a setting is unknown or wrong, or the file cannot be read.
    """
    if preset not in PRESETS:
        raise ConfigError(
            f"preset must be one of {', '.join(PRESETS)}, got {preset!r}"
            f"{suggest(preset, PRESETS)}"
        )
    text = importlib.resources.files("pipeline").joinpath(f"presets/{preset}.yaml")
    layers = [_parse_sections(text.read_text(encoding="utf-8"), f"preset {preset}")]
    if file is not None:
        layers.append(_parse_sections(_read_file(file), file))
    layers += [parse_setting(setting) for setting in settings]
    for key, value in (overrides or {}).items():
        section, _, field = key.partition(".")
        if isinstance(value, str):
            _check_decoded(value, key)
        layers.append({section: {field: value}})
    merged: dict[str, dict[str, Any]] = {}
    for layer in layers:
        for section, fields in layer.items():
            merged.setdefault(section, {}).update(fields)
    has_floor = any("elbo_floor" in layer.get("gate", {}) for layer in layers[1:])
    config = from_dict(merged)
    if (
        not has_floor
        and config.data.dataset != _DATASET_OF_FLOORS
        and preset not in _PRESETS_WITH_OWN_FLOOR
    ):
        gate = dataclasses.replace(config.gate, elbo_floor="auto")
        config = dataclasses.replace(config, gate=gate)
    _check_encodable(dataclasses.asdict(config))
    return config


def from_dict(sections: Mapping[str, Mapping[str, Any]]) -> PipelineConfig:
    """Returns the configuration with the given fields; the others have defaults.

    Raises:
      ConfigError: an unknown key, a wrong type, or a value out of range.
    """
    _check_keys(sections)
    try:
        # JSON, because its strict mode accepts a dict for a dataclass and 1 for 1.0.
        return pydantic.TypeAdapter(PipelineConfig).validate_json(
            json.dumps(sections, default=str), strict=True
        )
    except pydantic.ValidationError as error:
        # A field that takes a number or a word has an error for each.
        messages = dict.fromkeys(map(_describe, error.errors()))
        raise ConfigError("; ".join(messages)) from error


def decisive(config: PipelineConfig) -> dict[str, dict[str, Any]]:
    """Returns the settings that decide what a run makes, as a dict of sections.

    Left out are the sections kubeflow, notify and metrics, gate.infra_timeout,
    push.single_writer and the settings of signatures.
    """
    sections = dataclasses.asdict(config)
    for section in _INDECISIVE:
        del sections[section]
    # They may fail a step, but refuse no model.
    del sections["gate"]["infra_timeout"]
    for name in ("single_writer", "sign", "verify", "signed_destination"):
        del sections["push"][name]
    return sections


def to_yaml(config: PipelineConfig) -> str:
    """Returns the whole configuration as the YAML text of a config file."""
    return yaml.dump(
        dataclasses.asdict(config), Dumper=strict_yaml.Dumper, sort_keys=False
    )


def lines(config: PipelineConfig) -> list[str]:
    """Returns each section that decides what a run makes, as one line of YAML."""
    return [
        yaml.dump(
            {section: fields},
            Dumper=strict_yaml.Dumper,
            sort_keys=False,
            default_flow_style=None,
            width=float("inf"),
        ).rstrip()
        for section, fields in decisive(config).items()
    ]


def _check_encodable(value: Any, name: str = "") -> None:
    """Raises ConfigError for a text that the locale's encoding cannot represent."""
    if isinstance(value, dict):
        for key, each in value.items():
            _check_encodable(each, f"{name}.{key}" if name else key)
    elif isinstance(value, list | tuple):
        for each in value:
            _check_encodable(each, name)
    elif isinstance(value, str):
        try:
            os.fsencode(value)
        except UnicodeEncodeError as error:
            raise ConfigError(
                f"{name} must have only letters of this locale's encoding, "
                f"{error.encoding}, got {value!r}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1"
            ) from error


def is_quoted(text: str) -> bool:
    """Returns whether a text is one text of YAML in quotes."""
    if len(text) < 2 or text[0] not in "'\"" or text[-1] != text[0]:
        return False
    try:
        return isinstance(_parse(text, "it"), str)
    except ConfigError:
        return False


def _read_file(file: str) -> str:
    """Returns the text of a config file, of which no more is read than is allowed.

    Raises:
      ConfigError: the file cannot be read, is too large, or is not in UTF-8.
    """
    try:
        with open(file, "rb") as stream:
            content = stream.read(strict_yaml.MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"can't read the config file {file}: {error}") from error
    try:
        strict_yaml.check_size(content)
    except strict_yaml.YamlError as error:
        raise ConfigError(f"{file} {error}") from error
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            f"can't read the config file {file}: {error}, at line {line}: save it as "
            "UTF-8"
        ) from error


def _parse(text: str, where: str, *, named_levels: int = 0) -> Any:
    """Returns the value of a YAML text; errors name the text by `where`."""
    try:
        return strict_yaml.parse(text, named_levels=named_levels)
    except strict_yaml.YamlError as error:
        raise ConfigError(f"{where} {error}") from error


def _parse_sections(text: str, where: str) -> dict[str, dict[str, Any]]:
    """Returns the sections of a YAML text; errors name the text by `where`."""
    sections = _parse(text, where, named_levels=2)
    got = None
    if sections is None:
        got = "nothing"
    elif not isinstance(sections, dict):
        got = "a list" if isinstance(sections, list) else "a single value"
    else:
        for section, fields in sections.items():
            if not isinstance(fields, dict):
                got = f"no fields in {section}"
                break
    if got:
        raise ConfigError(
            f"{where} must have sections of fields, such as "
            f"gate: {{elbo_floor: -100}}, got {got}"
        )
    return sections


def parse_setting(setting: str) -> dict[str, dict[str, Any]]:
    """Returns `section.field=value` as a section with one field.

    Raises:
      ConfigError: the text does not have this form, or the value is no YAML.
    """
    key, equals, value = setting.partition("=")
    section, dot, field = key.partition(".")
    if not equals or not dot:
        raise ConfigError(
            f"a setting must be section.field=value, such as gate.elbo_floor=-100; "
            f"got {'one of notify' if key.startswith('notify') else repr(setting)}"
        )
    _check_decoded(value, key)
    is_literal = _is_text(_field_types().get(key)) and not is_quoted(value)
    return {section: {field: value if is_literal else _parse(value, key)}}


def _field_types() -> dict[str, Any]:
    """Returns the type of each field, by `section.field`."""
    return {
        f"{section}.{field}": kind
        for section, fields in typing.get_type_hints(PipelineConfig).items()
        for field, kind in typing.get_type_hints(fields).items()
    }


def _is_text(kind: Any) -> bool:
    """Returns whether a field's type is text, or one of several texts."""
    return kind is str or typing.get_origin(kind) is Literal


def _list_words(kind: Any) -> list[str]:
    """Returns the words that a field takes in place of a number; [] for other types."""
    members = typing.get_args(kind)
    if float not in members:
        return []
    return [word for each in members for word in typing.get_args(each)]


def _check_decoded(text: str, key: str) -> None:
    """Raises ConfigError for a word of the command line that the locale cannot decode.

    Python keeps the bytes as characters that no YAML has.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{key} must have only letters of this locale's encoding, "
            f"{sys.getfilesystemencoding()}: set LC_ALL=C.UTF-8 or PYTHONUTF8=1, and "
            "write it in UTF-8"
        ) from error


def _check_keys(sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises ConfigError for an unknown field, with the nearest known name."""
    known = list(_field_types())
    known_sections = [field.name for field in dataclasses.fields(PipelineConfig)]
    for section, fields in sections.items():
        if section not in known_sections and not fields:  # else a field is named below
            hint = suggest(section, known_sections)
            raise ConfigError(
                f"unknown section {section[:_LONGEST_SHOWN]}"
                f"{hint or f': one of {known_sections}'}"
            )
        for field in fields:
            key = f"{section}.{field}"
            if key not in known:
                nearest = find_nearest(key, known)
                hint = f"did you mean {nearest}?" if nearest else f"one of {known}"
                # The value may be a secret whose key is mistyped.
                secret = key.startswith("notify.") or "notify." in (nearest or "")
                value = "" if secret else f" ({_show(fields[field])})"
                shown = key[:_LONGEST_SHOWN]
                if secret and not re.fullmatch(r"[A-Za-z_.]+", field):
                    shown = f"of {section}, which may be a secret and is not shown"
                raise ConfigError(f"unknown setting {shown}{value}: {hint}")


_LONGEST_SHOWN = 200  # characters of a key or a value in a message

# Texts for violated constraints, by pydantic's error type.
_EXPECTED = {
    "finite_number": "must be a finite number",
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
}


def _suggest_notation(kind: str, value: Any) -> str:
    """Returns how to write a value that YAML 1.2 reads as another type than was meant.

    Args:
      kind: pydantic's type of the error.
      value: the value that was read, which may be a secret and is not in the result.
    """
    if kind == "string_type" and isinstance(value, bool | int | float):
        return ": put it in quotes"
    if not isinstance(value, str):
        return ""
    if kind == "bool_type" and value.lower() in ("y", "yes", "n", "no", "on", "off"):
        return ": write true or false"
    if kind in ("int_type", "float_type") and re.fullmatch(r"[-+]?[0-9._]+", value):
        return ": write it without _" if "_" in value else ""
    return ""


def _describe(error: Any) -> str:
    """Returns the message for one of pydantic's errors.

    It has the key, what was expected, and the value unless that may be a secret.
    """
    key = ".".join(map(str, error["loc"]))
    setting = ".".join(map(str, error["loc"][:2]))
    if words := _list_words(_field_types().get(setting)):
        expected = f"must be a finite number or {' or '.join(words)}"
        hint = suggest(str(error["input"]), words)
        return f"{setting} {expected}, got {error['input']!r}{hint}"
    if error["type"] == "value_error":  # raised by a section's __post_init__
        return f"{key}.{error['ctx']['error']}"
    if error["type"] == "unexpected_keyword_argument":  # in kubeflow.steps
        known = [field.name for field in dataclasses.fields(StepConfig)]
        hint = suggest(str(error["loc"][-1]), known)
        return f"unknown setting {key} ({_show(error['input'])}){hint}"
    hint = ""
    if error["type"] in _EXPECTED:
        expected = _EXPECTED[error["type"]].format(**error.get("ctx", {}))
    else:
        expected = error["msg"].replace("Input should be", "must be")
        hint = _suggest_notation(error["type"], error["input"])
        if key.startswith("notify."):  # the value may be a secret in the wrong field
            return f"{key} {expected}{hint}"
        if error["type"] == "literal_error":
            names = re.findall("'(.*?)'", error["ctx"]["expected"])
            hint = suggest(str(error["input"]), names)
    return f"{key} {expected}, got {_show(error['input'])}{hint}"


def _show(value: Any) -> str:
    """Returns a wrong value for a message: cut, and without a URL's secrets."""
    text = repr(value)
    if "://" in text:
        return "a URL, which may have a secret and is not shown"
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."
