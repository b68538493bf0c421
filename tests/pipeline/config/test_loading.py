import dataclasses

import pytest
import yaml

from pipeline.config import loading
from pipeline.config.loading import ConfigError, PipelineConfig, resolve


def test_the_default_is_the_demo():
    resolved = resolve("demo")
    assert resolved == PipelineConfig()
    assert resolved.gate.elbo_floor == -115.0
    assert resolved.gate.tolerance == 0.5


def test_the_blog_preset_is_the_posts_recipe():
    resolved = resolve("blog")
    assert resolved.model.network == "blog"
    assert (resolved.model.latent_size, resolved.model.base_depth) == (16, 32)
    train = resolved.train
    assert (train.epochs, train.learning_rate, train.schedule) == (15, 1e-3, "constant")
    assert (train.warmup_steps, train.clip_norm) == (0, None)


@pytest.mark.parametrize("preset", loading.PRESETS)
def test_what_is_printed_resolves_to_the_same(preset, tmp_path):
    resolved = resolve(preset, settings=["train.learning_rate=1e-4"])
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
    assert resolved.train.batch_size == 100  # the preset's
    assert resolved.gate.elbo_floor == -99.0
    assert resolved.model.beta == 2.0


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "model.network=cnn",
            "model.network must be 'blog', 'dense' or 'conv_residual', got 'cnn'",
        ),
        ("train.epochs=0", "train.epochs must be at least 1, got 0"),
        ("train.epochs=ten", "train.epochs must be a valid integer, got 'ten'"),
        ("train.epochs=true", "train.epochs must be a valid integer, got True"),
        ("train.epochs=2.5", "train.epochs must be a valid integer, got 2.5"),
        ("train.learning_rate=-1", "train.learning_rate must be above 0.0, got -1"),
        (
            "gate.elbo_flor=3",
            "unknown setting gate.elbo_flor (3): did you mean gate.elb",
        ),
        ("gates.elbo_floor=3", "unknown setting gates.elbo_floor (3): did you mean ga"),
        ("zzz.zzz=3", "unknown setting zzz.zzz (3): one of ['data.dataset',"),
        ("gate.elbo_floor=.nan", "gate.elbo_floor must be a number, got nan"),
        ("gate.tolerance=-1", "gate.tolerance must be at least 0.0, got -1"),
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
        ("push.model_name=", "push.model_name must be a valid string, got None"),
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
    with pytest.raises(ConfigError, match="one of five_minutes, .*, smoke, got 'big'"):
        resolve("big")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", "must have sections of fields"),
        ("gate: 3\n", "must have sections of fields"),
        ("gate: {\n", "must be YAML"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match=f"mine.yaml {message}"):
        resolve("demo", str(file))


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
