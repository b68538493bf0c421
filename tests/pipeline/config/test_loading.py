"""The presets, and how settings, files and presets are combined."""

import dataclasses
import importlib.resources
import typing

import pydantic
import pytest
import yaml

from pipeline.config import loading
from pipeline.config.loading import ConfigError, PipelineConfig, resolve
from pipeline.config.sections import StepConfig


def test_the_defaults_of_the_fields_are_the_default_preset():
    assert resolve(loading.DEFAULT) == PipelineConfig()
    assert loading.from_dict({}) == PipelineConfig()
    assert resolve("five_minutes") == resolve(loading.DEFAULT)


@pytest.mark.parametrize("preset", loading.PRESETS)
def test_a_preset_holds_only_what_differs_from_the_defaults(preset):
    file = importlib.resources.files("pipeline").joinpath(f"presets/{preset}.yaml")
    sections = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    restated = [
        f"{section}.{field}"
        for section, fields in sections.items()
        for field, value in fields.items()
        if value == getattr(getattr(PipelineConfig(), section), field)
    ]
    assert restated == []


# The names of the presets' models are those of the README's table of results.
@pytest.mark.parametrize(
    ("preset", "network", "prior", "epochs", "floor"),
    [
        ("five_minutes", "conv_residual", "realnvp", 5, -100.0),
        ("ten_minutes", "conv_residual", "realnvp", 12, -95.0),
        ("one_hour", "conv_residual", "realnvp", 50, -90.0),
        ("demo", "dense", "standard", 10, -115.0),
        ("blog", "blog", "standard", 15, -115.0),
        ("smoke", "dense", "standard", 2, -400.0),
    ],
)
def test_each_preset_is_the_model_that_the_readme_describes(
    preset, network, prior, epochs, floor
):
    resolved = resolve(preset)
    assert (resolved.model.network, resolved.model.prior) == (network, prior)
    assert resolved.train.epochs == epochs
    assert resolved.gate.elbo_floor == floor


# The presets' floors are for MNIST; `smoke`'s models are too small for any other floor.
@pytest.mark.parametrize(
    ("preset", "floor"),
    [
        *((preset, "auto") for preset in loading.PRESETS if preset != "smoke"),
        ("smoke", -400.0),
    ],
)
def test_the_floor_of_a_preset_does_not_hold_for_other_data(preset, floor, tmp_path):
    resolved = resolve(preset, settings=["data.dataset=kmnist"])
    assert resolved.gate.elbo_floor == floor
    assert resolve(preset, overrides={"data.dataset": "bars"}).gate.elbo_floor == floor
    file = tmp_path / "config.yaml"
    file.write_text("data: {dataset: kmnist}\ngate: {tolerance: 0.1}\n")
    assert resolve(preset, str(file)).gate == dataclasses.replace(
        resolved.gate, tolerance=0.1
    )


@pytest.mark.parametrize("preset", loading.PRESETS)
@pytest.mark.parametrize("dataset", ["mnist", "kmnist"])
@pytest.mark.parametrize("floor", [-115.0, "auto"])
def test_a_floor_that_the_user_set_holds_for_any_data(preset, dataset, floor, tmp_path):
    data = f"data.dataset={dataset}"
    setting = f"gate.elbo_floor={floor}"
    assert resolve(preset, settings=[data, setting]).gate.elbo_floor == floor
    file = tmp_path / "config.yaml"
    file.write_text(f"gate: {{elbo_floor: {floor}}}\n")
    assert resolve(preset, str(file), settings=[data]).gate.elbo_floor == floor
    both = {"data.dataset": dataset, "gate.elbo_floor": floor}
    assert resolve(preset, overrides=both).gate.elbo_floor == floor


def test_a_file_can_name_mnist_again(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("data: {dataset: kmnist}\n")
    resolved = resolve("demo", str(file), settings=["data.dataset=mnist"])
    assert resolved.gate.elbo_floor == -115.0


@pytest.mark.parametrize(
    ("value", "got"),
    [
        ("atuo", "'atuo': did you mean auto?"),
        ("Auto", "'Auto': did you mean auto?"),
        ("none", "'none'"),
        ("null", "None"),
        ("true", "True"),
        ("[auto]", "['auto']: did you mean auto?"),
        ("'-100'", "'-100'"),
        (".nan", "nan"),
        (".inf", "inf"),
    ],
)
def test_a_floor_is_a_finite_number_or_auto(value, got, tmp_path):
    expected = f"gate.elbo_floor must be a finite number or auto, got {got}"
    with pytest.raises(ConfigError) as caught:
        resolve("demo", settings=[f"gate.elbo_floor={value}"])
    assert str(caught.value) == expected
    file = tmp_path / "config.yaml"
    file.write_text(f"gate: {{elbo_floor: {value}}}\n")
    with pytest.raises(ConfigError) as caught:
        resolve("demo", str(file))
    assert str(caught.value) == expected


def test_the_blog_preset_is_the_posts_recipe():
    resolved = resolve("blog")
    assert resolved.model.network == "blog"
    assert (resolved.model.latent_size, resolved.model.base_depth) == (16, 32)
    train = resolved.train
    assert (train.epochs, train.learning_rate, train.schedule) == (15, 1e-3, "constant")
    assert (train.warmup_steps, train.clip_norm) == (0, None)


@pytest.mark.parametrize("preset", loading.PRESETS)
@pytest.mark.parametrize("dataset", ["mnist", "kmnist"])
def test_the_printed_options_resolve_to_the_same_settings(preset, dataset, tmp_path):
    settings = ["train.learning_rate=1e-4", f"data.dataset={dataset}"]
    resolved = resolve(preset, settings=settings)
    file = tmp_path / "config.yaml"
    file.write_text(loading.to_yaml(resolved))
    assert resolve("demo", str(file)) == resolved
    assert yaml.safe_load(file.read_text()) == dataclasses.asdict(resolved)


def test_settings_go_over_the_file_over_the_preset(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("train: {epochs: 7, seed: 1}\ngate: {elbo_floor: -99}\n")
    resolved = resolve("smoke", str(file), settings=["train.seed=2", "model.beta=2"])
    assert resolved.train.epochs == 7
    assert resolved.train.seed == 2
    assert resolved.train.batch_size == 100  # from the preset
    assert resolved.gate.elbo_floor == -99.0
    assert resolved.model.beta == 2.0


@pytest.mark.parametrize("preset", ["five_minutes", "demo", "smoke"])
def test_a_file_changes_only_what_it_sets(preset, tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(
        "model: {network: blog, latent_size: 8}\ntrain: {clip_norm: null}\n"
        "gate: {elbo_floor: -115.0}\ndata: {limit: 6000}\n"
    )
    expected = dataclasses.asdict(resolve(preset))
    expected["model"] |= {"network": "blog", "latent_size": 8}
    expected["train"]["clip_norm"] = None
    expected["gate"]["elbo_floor"] = -115.0
    expected["data"]["limit"] = 6000
    assert dataclasses.asdict(resolve(preset, str(file))) == expected


def float_settings():
    """Returns a format of --set for each float field, including a step's container."""
    found = []
    for section in (*dataclasses.fields(PipelineConfig), None):
        kind = StepConfig if section is None else section.type
        for name, hint in typing.get_type_hints(kind).items():
            if float in (hint, *typing.get_args(hint)):
                step = f"kubeflow.steps={{Trainer: {{{name}: %s}}}}"
                found.append(step if section is None else f"{section.name}.{name}=%s")
    return found


def test_all_float_fields_are_found():
    assert {setting.partition("=")[0] for setting in float_settings()} == {
        "model.beta",
        "model.free_bits",
        "train.learning_rate",
        "train.clip_norm",
        "train.weight_decay",
        "train.ema",
        "train.checkpoint_minutes",
        "data.elbo_fall",
        "gate.elbo_floor",
        "gate.tolerance",
        "gate.confidence",
        "gate.class_tolerance",
        "notify.timeout",
        "kubeflow.steps",
    }


@pytest.mark.parametrize(
    ("value", "got"),
    [(".inf", "inf"), ("-.inf", "-inf"), (".nan", "nan"), ("1e400", "inf")],
)
@pytest.mark.parametrize("setting", float_settings())
def test_every_float_must_be_finite(setting, value, got):
    with pytest.raises(ConfigError) as caught:
        resolve("demo", settings=[setting % value])
    key = setting.partition("=")[0].replace("kubeflow.steps", "kubeflow.steps.Trainer")
    assert str(caught.value).startswith(key)
    or_auto = " or auto" if key == "gate.elbo_floor" else ""
    expected = f" must be a finite number{or_auto}, got {got}"
    assert str(caught.value).endswith(expected)


def test_every_field_has_a_description():
    schema = pydantic.TypeAdapter(PipelineConfig).json_schema()
    fields = {
        f"{section}.{name}": field
        for section, content in schema["$defs"].items()
        for name, field in content["properties"].items()
    }
    assert len(fields) > 40
    assert [
        name for name, field in fields.items() if not field.get("description")
    ] == []


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("model.latent_size=0", "model.latent_size must be at least 1, got 0"),
        ("model.base_depth=0", "model.base_depth must be at least 1, got 0"),
        ("model.hidden_units=-1", "model.hidden_units must be at least 1, got -1"),
        ("model.posterior_layers=0", "model.posterior_layers must be at least 1, got"),
        ("model.prior_components=0", "model.prior_components must be at least 1, got"),
        ("model.prior_layers=0", "model.prior_layers must be at least 1, got 0"),
        ("model.flow_units=0", "model.flow_units must be at least 1, got 0"),
        ("model.free_bits=-1", "model.free_bits must be at least 0.0, got -1"),
        ("model.beta=-0.5", "model.beta must be at least 0.0, got -0.5"),
        ("train.batch_size=0", "train.batch_size must be at least 1, got 0"),
        ("train.learning_rate=0", "train.learning_rate must be above 0.0, got 0"),
        ("train.warmup_steps=-1", "train.warmup_steps must be at least 0, got -1"),
        ("train.kl_warmup_steps=-1", "train.kl_warmup_steps must be at least 0, got"),
        ("train.weight_decay=-1", "train.weight_decay must be at least 0.0, got -1"),
        ("train.ema=-0.1", "train.ema must be at least 0.0, got -0.1"),
        ("train.ema=1.0", "train.ema must be below 1.0, got 1.0"),
        ("train.patience=0", "train.patience must be at least 1, got 0"),
        (
            "train.checkpoint_minutes=0",
            "train.checkpoint_minutes must be above 0.0, got 0",
        ),
        ("train.clip_norm=0", "train.clip_norm must be above 0.0, got 0"),
        ("train.seed=-1", "train.seed must be at least 0, got -1"),
        ("train.seed=4294967296", "train.seed must be below 4294967296, got 429496"),
        ("train.replicas=-1", "train.replicas must be at least 0, got -1"),
        ("train.replicas=3", "train.batch_size must be a multiple of replicas (3), "),
        ("data.span_window=0", "data.span_window must be at least 1, got 0"),
        ("notify.timeout=0", "notify.timeout must be above 0.0, got 0"),
        (
            "kubeflow.steps={Trainer: {cpu: 0}}",
            "kubeflow.steps.Trainer.cpu must be above 0.0, got 0",
        ),
        (
            "kubeflow.steps={Trainer: {memory: -1}}",
            "kubeflow.steps.Trainer.memory must be above 0.0, got -1",
        ),
        (
            "kubeflow.steps={Trainer: {gpus: -1}}",
            "kubeflow.steps.Trainer.gpus must be at least 0, got -1",
        ),
        (
            "kubeflow.steps={Trainer: {cpus: 3}}",
            "unknown setting kubeflow.steps.Trainer.cpus (3): did you mean cpu?",
        ),
    ],
)
def test_a_value_out_of_range_is_named(setting, message):
    with pytest.raises(ConfigError) as caught:
        resolve("demo", settings=[setting])
    assert message in str(caught.value)


def test_a_secret_in_the_wrong_place_is_not_shown():
    with pytest.raises(ConfigError) as caught:
        resolve("demo", settings=["notify.timeout=s3cret"])
    assert str(caught.value) == "notify.timeout must be a valid number"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.network=dens",
            "model.network must be 'blog', 'dense' or 'conv_residual', got 'dens': did "
            "you mean dense?",
        ),
        ("train.epochs=0", "train.epochs must be at least 1, got 0"),
        ("train.epochs=ten", "train.epochs must be a valid integer, got 'ten'"),
        ("train.epochs=true", "train.epochs must be a valid integer, got True"),
        (
            "train.epochs=1_0",
            "train.epochs must be a valid integer, got '1_0': write it without _",
        ),
        ("train.epochs=1:30", "train.epochs must be a valid integer, got '1:30'"),
        ("train.epochs=0b11", "train.epochs must be a valid integer, got '0b11'"),
        (
            "train.warm_start=yes",
            "train.warm_start must be a valid boolean, got 'yes': write true or false",
        ),
        (
            "data.accept_drift=Off",
            "data.accept_drift must be a valid boolean, got 'Off': write true or false",
        ),
        (
            "kubeflow.volumes={/data: 0123}",
            "kubeflow.volumes./data must be a valid string, got 123: put it in quotes",
        ),
        ("notify.timeout=1_0", "notify.timeout must be a valid number: write it with"),
        (
            "notify.command=[echo, 1]",
            "notify.command.1 must be a valid string: put it in quotes",
        ),
        ("train.epochs=2.5", "train.epochs must be a valid integer, got 2.5"),
        ("train.learning_rate=-1", "train.learning_rate must be above 0.0, got -1"),
        (
            "gate.elbo_flor=3",
            "unknown setting gate.elbo_flor (3): did you mean gate.elb",
        ),
        ("gates.elbo_floor=3", "unknown setting gates.elbo_floor (3): did you mean ga"),
        ("zzz.zzz=3", "unknown setting zzz.zzz (3): one of ['data.dataset',"),
        ("gate.tolerance=-1", "gate.tolerance must be at least 0.0, got -1"),
        ("gate.confidence=95", "gate.confidence must be below 1.0, got 95"),
        ("gate.confidence=null", "gate.confidence must be a valid number, got None"),
        ("gate.class_tolerance=-1", "gate.class_tolerance must be at least 0.0, got"),
        ("gate.samples=0", "gate.samples must be at least 1, got 0"),
        ("gate.iwae_samples=0", "gate.iwae_samples must be at least 1, got 0"),
        ("gate.infra_timeout=0", "gate.infra_timeout must be at least 1, got 0"),
        ("gate.infra_timeout=.5", "gate.infra_timeout must be a valid integer, got"),
        ("gate.seed=-1", "gate.seed must be at least 0, got -1"),
        ("data.eval_images=0", "data.eval_images must be at least 1, got 0"),
        ("data.limit=5000", "data.limit must be above eval_images (5000), got 5000"),
        (
            "push.model_name=../x",
            "push.model_name must be a plain folder name, got '../",
        ),
        ("push.model_name=", "push.model_name must be a plain folder name, got ''"),
        (
            "push.destination=hdfs://host/serving",
            "push.destination must be a folder or begin with minio://, s3://, gs://, "
            "got 'hdfs://host/serving'",
        ),
        (
            "train",
            "a setting must be section.field=value, such as gate.elbo_floor=-100",
        ),
        (
            "train=3",
            "a setting must be section.field=value, such as gate.elbo_floor=-1",
        ),
        (
            "train.epochs=[",
            "train.epochs must be YAML: while parsing a flow node, at line 1",
        ),
    ],
)
def test_a_bad_setting_is_named_with_what_was_expected(setting, message):
    with pytest.raises(ConfigError) as caught:
        resolve("demo", settings=[setting])
    assert message in str(caught.value)


def test_an_unknown_preset_is_named():
    with pytest.raises(ConfigError) as error:
        resolve("five_minute")
    assert str(error.value) == (
        "preset must be one of five_minutes, ten_minutes, one_hour, demo, blog, smoke, "
        "got 'five_minute': did you mean five_minutes?"
    )


# YAML or a shell would read each of these texts as something else.
TEXTS = ["null", "~x", "1e3", "123", "[a]", "true", "my data #2", "a: b", "'", "", "'a"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_literal(text):
    assert resolve("demo", settings=[f"data.dataset={text}"]).data.dataset == text
    overrides = {"data.dataset": text}
    assert resolve("demo", overrides=overrides).data.dataset == text


@pytest.mark.parametrize(
    ("text", "expected"), [("'null'", "null"), ('"a\\tb"', "a\tb"), ("''", "")]
)
def test_a_text_in_quotes_is_parsed_as_yaml(text, expected):
    assert resolve("demo", settings=[f"data.dataset={text}"]).data.dataset == expected
    # An override takes every text literally, with its quotes.
    assert resolve("demo", overrides={"data.dataset": text}).data.dataset == text


def test_other_values_than_text_are_parsed_as_yaml():
    resolved = resolve(
        "demo",
        settings=[
            *("data.limit=null", "train.warm_start=true", "train.learning_rate=1e-3"),
            "notify.command=[notify-me, 'a: b']",
            "kubeflow.volumes={/data: claim}",
        ],
    )
    assert resolved.data.limit is None
    assert resolved.train.warm_start is True
    assert resolved.train.learning_rate == 0.001
    assert resolved.notify.command == ["notify-me", "a: b"]
    assert resolved.kubeflow.volumes == {"/data": "claim"}


def test_overrides_go_over_the_settings():
    settings = ["data.dataset=kmnist", "train.replicas=1"]
    overrides = {"data.dataset": "digits", "train.replicas": 2}
    resolved = resolve("demo", settings=settings, overrides=overrides)
    assert (resolved.data.dataset, resolved.train.replicas) == ("digits", 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have sections of fields, such as {gate}, got nothing"),
        ("# later\n", "must have sections of fields, such as {gate}, got nothing"),
        ("null\n", "must have sections of fields, such as {gate}, got nothing"),
        ("- 1\n", "must have sections of fields, such as {gate}, got a list"),
        ("3\n", "must have sections of fields, such as {gate}, got a single value"),
        (
            "gate: 3\n",
            "must have sections of fields, such as {gate}, got no fields in ",
        ),
        (
            "gate:\nseed: 1",
            "must have sections of fields, such as {gate}, got no field",
        ),
        ("gate: {\n", "must be YAML: while parsing a flow node, at line 2, column 1"),
        (
            "gate: {samples: 1}\ngate: {seed: 2}\n",
            "must have each key once, got gate at line 1, column 1 and again at line "
            "2, column 1: keep one of them",
        ),
        (
            "gate:\n  elbo_floor: -90\n  samples: 1\n  'elbo_floor': -400\n",
            "must have each key once, got elbo_floor at line 2, column 3 and again at "
            "line 4, column 3: keep one of them",
        ),
        (
            "gate:\n  <<: {seed: 1}\n",
            "must have no merge key <<, got one at line 2, column 3: write the fields",
        ),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        resolve("demo", str(file))
    expected = message.replace("{gate}", "gate: {elbo_floor: -100}")
    assert str(caught.value).startswith(f"{file} {expected}")
    assert "\n" not in str(caught.value)


def test_a_large_file_is_refused_before_all_of_it_is_read():
    with pytest.raises(ConfigError) as caught:
        resolve("demo", "/dev/zero")
    assert str(caught.value) == (
        "/dev/zero must have at most 100,000 bytes, got more: keep only the settings "
        "that differ from the preset"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_a_file_in_another_encoding_is_named_with_its_line(tmp_path, encoding):
    file = tmp_path / "mine.yaml"
    file.write_text("gate: {}\n# é\n", encoding=encoding)
    with pytest.raises(ConfigError) as caught:
        resolve("demo", str(file))
    line = {"utf-16": 1, "latin-1": 2}[encoding]
    message = str(caught.value)
    assert message.startswith(f"can't read the config file {file}: 'utf-8' codec can't")
    assert message.endswith(f", at line {line}: save it as UTF-8")


# YAML 1.1, PyYAML's, and YAML 1.2 differ in what they read these as without quotes.
@pytest.mark.parametrize(
    "text",
    ["0o17", "0123", "08", "1e3", ".5e3", "yes", "1:30", "2024-01-01", "=", "1_0"],
)
def test_a_printed_text_resolves_to_the_same(tmp_path, text):
    resolved = resolve("demo", overrides={"push.model_name": "m", "data.dataset": text})
    file = tmp_path / "config.yaml"
    file.write_text(loading.to_yaml(resolved))
    assert resolve("demo", str(file)) == resolved
    file.write_text("\n".join(loading.lines(resolved)))
    assert resolve("demo", str(file)) == resolved


def test_a_text_in_a_file_may_look_like_a_date_or_a_word_of_yaml_1_1(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("data: {dataset: 2024-99-99, source: on}\n")
    data = resolve("demo", str(file)).data
    assert (data.dataset, data.source) == ("2024-99-99", "on")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"can't read the config file .*gone.yaml"):
        resolve("demo", str(tmp_path / "gone.yaml"))


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("2E4", 2e4), ("5", 5.0)])
def test_numbers_are_written_as_everybody_writes_them(text, value):
    resolved = resolve("demo", settings=[f"train.learning_rate={text}"])
    assert resolved.train.learning_rate == value


def test_a_run_shows_a_line_for_each_section_that_means_something_to_it():
    shown = loading.lines(
        loading.resolve("smoke", settings=["kubeflow.data_dir=/data"])
    )
    assert [line.partition(":")[0] for line in shown] == [
        "data",
        "model",
        "train",
        "gate",
        "push",
    ]
    assert yaml.safe_load("\n".join(shown))["gate"]["elbo_floor"] == -400.0


def test_the_time_that_infra_check_gets_decides_nothing():
    short, long = (
        resolve("smoke", settings=[f"gate.infra_timeout={s}"]) for s in (1, 2)
    )
    assert short != long
    assert loading.decisive(short) == loading.decisive(long)


def test_whether_nobody_else_pushes_decides_nothing():
    alone = resolve("smoke", settings=["push.single_writer=true"])
    assert alone.push.single_writer
    assert loading.decisive(alone) == loading.decisive(resolve("smoke"))


def test_an_unknown_section_without_fields_is_refused(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("gaet: {}\n")
    with pytest.raises(ConfigError) as error:
        resolve("smoke", str(path))
    assert str(error.value) == "unknown section gaet: did you mean gate?"


def test_a_wrong_value_is_cut_and_a_url_is_not_shown():
    for setting in ("gate.seed", "hook.url"):
        with pytest.raises(ConfigError) as error:
            resolve("smoke", settings=[f"{setting}=https://example.org/secret"])
        assert "secret/" not in str(error.value)
        assert "a URL, which may have a secret and is not shown" in str(error.value)
    with pytest.raises(ConfigError) as error:
        resolve("smoke", settings=["gate.seed=" + "x" * 10_000])
    assert len(str(error.value)) < 300


def test_a_key_of_notify_that_is_no_name_is_not_shown(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("notify: {token secret-4711: 1}\n")
    with pytest.raises(ConfigError) as error:
        resolve("smoke", str(path))
    assert str(error.value) == (
        "unknown setting of notify, which may be a secret and is not shown: did you "
        "mean notify.token?"
    )
