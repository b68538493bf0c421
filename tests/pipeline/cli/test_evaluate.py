"""The command `evaluate`, with a real export and a small data set."""

import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
import tensorflow_datasets as tfds
import tf_keras as tfk

from components.datasets.prepare import Prepared, prepare
from components.registry.manifest import Manifest
from model import export, fixed_noise
from model.vae import VAE
from pipeline.cli import evaluate as evaluate_command
from pipeline.cli import main
from pipeline.config.loading import decisive, resolve
from tests.support.bars import write_idx
from tests.support.configs import demo_model
from tests.support.known_model import KnownModel
from tests.support.pushes import push_next

SAMPLES, SEED = 3, 11  # of the export; they differ from the defaults


class Place:
    """A root with a data set and two pushed versions."""

    def __init__(self, path):
        self.path = path
        self.destination = str(path / "runs" / "serving" / "vae")
        write_idx(path / "idx", labels=range(10))
        self.data = prepare(
            "bars_to_measure", str(path / "idx"), data_dir=path / "data"
        )
        tfk.utils.set_random_seed(0)
        self.vae = VAE(demo_model(latent_size=2, hidden_units=8))
        export.export(self.vae, str(path / "old"), samples=SAMPLES, seed=SEED)
        self.old = self._push("old", "bernoulli")
        known = KnownModel([1, 1, 1, 1])
        signatures = {"elbo": known.elbo, "iwae": known.iwae, "encode": known.encode}
        tf.saved_model.save(known, str(path / "new"), signatures)
        self.new = self._push("new", "continuous_bernoulli")

    def _push(self, name, likelihood):
        settings = [f"gate.samples={SAMPLES}", f"gate.seed={SEED}"]
        config = resolve("demo", settings=[*settings, f"model.likelihood={likelihood}"])
        manifest = {
            "config": decisive(config),
            "data_fingerprint": self.data.fingerprint,
        }
        return push_next(
            str(self.path / name),
            destination=self.destination,
            manifest=Manifest.from_content(manifest),
        )

    def arguments(self, *more):
        return [
            *("evaluate", "--dataset", self.data.name),
            *("--root", str(self.path / "runs")),
            *("--data-dir", str(self.path / "data"), *more),
        ]

    def images(self, count, of="test"):
        """Returns the first `count` images of a split in [0, 1], as TFDS reads them."""
        split = of if count is None else f"{of}[:{count}]"
        rows = tfds.load(
            self.data.name, data_dir=self.path / "data", split=split, download=False
        )
        images = np.stack([row["image"] for row in rows.as_numpy_iterator()])
        return images.astype(np.float32) / 255


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("place"))


@pytest.fixture
def evaluate(place, capfd, nothing_is_slow):
    """Returns a function that runs `evaluate` with flags; returns code and output."""

    def evaluate(*flags):
        code = main.main(place.arguments(*flags))
        out, err = capfd.readouterr()
        return code, out + err

    return evaluate


def figures(printed):
    """Returns the closing table's values by name; joins the lines of folded cells."""
    rows = re.findall(r"│ (.{14}) │ (.*?) *│", printed)
    table, last = [], None
    for name, value in rows:
        if name.strip():
            last = len(table)
            table.append((name.strip(), value))
        else:
            table[last] = (table[last][0], f"{table[last][1]} {value}")
    return table


def test_the_figures_are_those_of_the_model(place, evaluate):
    version, vae = place.old, place.vae
    code, printed = evaluate("--version", str(version.number), "--iwae", "20")
    assert code == 0, printed
    grey = place.images(500)
    bits = fixed_noise.binarize(grey, SEED)
    terms = vae.elbo_terms(
        bits, fixed_noise.normal(bits, SEED, samples=SAMPLES, latent_size=2)
    )
    weights = vae.log_weights(
        bits, fixed_noise.normal(bits, SEED, samples=20, latent_size=2)
    )
    iwae = tf.reduce_mean(tf.reduce_logsumexp(weights, axis=1) - np.log(20))
    reconstruction, kl = (np.mean(t) for t in terms)
    active = np.sum(vae.encode(bits).mean().numpy().var(axis=0) > 0.01)
    of_images = "fixed binarization, seed 11, 500 images of the test split"
    train = fixed_noise.binarize(place.images(None, "train"), SEED).numpy()
    on = (train.sum(axis=0) + 1) / (len(train) + 2)
    expected = scipy.stats.bernoulli.logpmf(bits, on).sum(axis=(1, 2, 3)).mean()
    table = figures(printed)
    assert table[:-1] == [
        ("model", f"version {version.number} of {place.destination}"),
        ("data", "bars_to_measure"),
        ("ELBO", f"{np.mean(terms.elbo()):.2f} nats per image (higher is better)"),
        (
            "estimated by",
            f"the evidence lower bound, 3 samples of z per image, {of_images}",
        ),
        ("its terms", f"reconstruction {reconstruction:.2f}, KL {kl:.2f}"),
        (
            "compare with",
            f"independent pixels: {expected:.2f} nats per image (log-likelihood)",
        ),
        ("IWAE", f"{iwae:.2f} nats per image (higher is better)"),
        (
            "estimated by",
            f"the importance-weighted bound, 20 samples of z per image, {of_images}",
        ),
        ("active latents", f"{active} of 2"),
    ]
    assert table[-1][0] == "images/s"
    assert re.search(
        r"128 of 500 images  ELBO -\d+\.\d\d  IWAE -\d+\.\d\d nats", printed
    )


def test_by_default_the_served_version_is_measured_with_the_settings(place, evaluate):
    version = place.new
    limit = ["--set", "data.limit=40", "--set", "data.eval_images=30"]
    code, printed = evaluate(*limit, "--set", "gate.iwae_samples=4")
    assert code == 0, printed
    table = dict(figures(printed))
    assert table["model"] == f"version {version.number} of {place.destination}"
    images = place.images(40)[:, 20, 20]
    assert np.any((images > 0) & (images < 1))
    iwae = -100 * images.mean() / 4  # grey images, without binarization
    assert table["IWAE"].startswith(f"{iwae:.2f} nats")
    pixels = place.images(40, "train") * 255
    scale = np.sqrt(3 * (pixels.var(axis=0, dtype=float) + 1 / 12)) / np.pi
    mass = scipy.stats.logistic(pixels.mean(axis=0, dtype=float), scale)
    levels = np.round(place.images(40) * 255)
    low = np.where(levels == 0, -np.inf, levels - 0.5)
    high = np.where(levels == 255, np.inf, levels + 0.5)
    probability = np.where(
        low > mass.mean(), mass.sf(low) - mass.sf(high), mass.cdf(high) - mass.cdf(low)
    )
    expected = np.log(256 * probability).sum(axis=(1, 2, 3)).mean()
    of_pixels = f"independent pixels: {expected:.2f} nats per image (log-likelihood)"
    assert table["compare with"] == of_pixels
    assert table["estimated by"] == (
        "the importance-weighted bound, 4 samples of z per image, grey pixels, "
        "seed 11, 40 images of the test split"
    )


def test_other_data_are_pointed_out(place, evaluate, tmp_path):
    write_idx(tmp_path / "idx", labels=range(5))
    flags = ["--dataset", "other_bars", "--source", str(tmp_path / "idx")]
    code, printed = evaluate(*flags, "--limit", "20", "--iwae", "1")
    assert code == 0, printed
    assert dict(figures(printed))["data"] == (
        "other_bars, not the data that its run had"
    )


@pytest.mark.parametrize(
    ("limit_in_all", "limit_of_each", "expected"),
    [
        (None, None, {"/1": 500, "/2": 30}),
        (None, 40, {"/1": 40, "/2": 30}),
        (45, 40, {"/1": 40, "/2": 5}),
        (510, None, {"/1": 500, "/2": 10}),
        (500, None, {"/1": 500}),
    ],
)
def test_the_limit_is_on_the_spans_together(limit_in_all, limit_of_each, expected):
    parts = [
        Prepared(name="a", path="/1", fingerprint="1a", splits={"test": 500}),
        Prepared(name="b", path="/2", fingerprint="2b", splits={"test": 30}),
    ]
    counts = evaluate_command._count_images(
        parts, "test", limit_in_all=limit_in_all, limit_of_each=limit_of_each
    )
    assert counts == expected


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["--iwae", "0"], 2, "--iwae must be at least 1, got 0"),
        (["--limit", "-1"], 2, "--limit must be at least 1, got -1"),
        (
            ["--set", "gate.iwae_samples=0"],
            2,
            "gate.iwae_samples must be at least 1, got 0",
        ),
        (
            ["--version", "7"],
            2,
            "--version: the version must be one of those at {destination} "
            "({old}, {new}), got 7",
        ),
        (
            ["--set", "push.destination={path}/nowhere"],
            1,
            "nothing is served at {path}/nowhere/vae: `run` first, or name the place "
            "by --root or --set push.destination=...",
        ),
        (["--dataset", "Bars"], 2, "dataset must be name or name/config in lower case"),
    ],
)
def test_each_bad_option_is_named(place, evaluate, flags, code, message):
    texts = {
        "path": place.path,
        "destination": place.destination,
        "old": place.old.number,
        "new": place.new.number,
    }
    got, printed = evaluate(*(flag.format(**texts) for flag in flags))
    assert got == code
    assert f"vae-pipeline: {message.format(**texts)}" in printed


def test_a_changed_model_is_not_measured(place, evaluate, tmp_path):
    version = place.old
    copy = tmp_path / "vae" / str(version.number)
    shutil.copytree(version.path, copy)
    (copy / "saved_model.pb").write_bytes(b"changed")
    code, printed = evaluate("--set", f"push.destination={tmp_path}")
    assert code == 1
    assert "saved_model.pb has SHA-256" in printed


def test_it_needs_no_tfx_and_an_interrupt_gives_the_means_so_far(place):
    code = (
        "import sys; from pipeline.cli import main\n"
        "code = main.main(sys.argv[1:])\n"
        "assert not {'tfx', 'tensorflow_model_analysis'} & set(sys.modules)\n"
        "sys.exit(code)"
    )
    version = str(place.old.number)
    arguments = place.arguments("--version", version, "--iwae", "3000")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
        env=dict(os.environ),
    )
    for line in process.stdout:
        if "of 500 images" in line:
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, out + err
    table = dict(figures(out))
    done = int(re.search(r"the first (\d+) of", table["INTERRUPTED"])[1])
    assert done in (128, 256, 384)
    assert table["INTERRUPTED"] == (
        f"the means of the first {done} of the 500 images of bars_to_measure's test "
        "split"
    )
    assert f"{done} images of the test split" in table["estimated by"]
