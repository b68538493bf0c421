"""The commands `generate`, `reconstruct` and `score`, on a real export."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as tfk
from PIL import Image

from components.registry import listing
from model import export, fixed_noise
from model.config import ModelConfig
from model.vae import VAE
from pipeline.cli import main
from pipeline.config.loading import decisive, resolve
from tests.support.serving_http import Affine

SAMPLES, SEED = 3, 11  # of the export: not the defaults
SIZE = {"latent_size": 2, "hidden_units": 8}


class Place:
    """A root with one version, the same without signatures, and some images."""

    def __init__(self, path):
        self.path = path
        tfk.utils.set_random_seed(0)
        self.vae = VAE(ModelConfig(**SIZE))
        export.export(self.vae, str(path / "model"), samples=SAMPLES, seed=SEED)
        settings = [f"gate.samples={SAMPLES}", f"gate.seed={SEED}"]
        settings += [f"model.{field}={value}" for field, value in SIZE.items()]
        config = decisive(resolve("demo", None, [*settings, "model.prior=standard"]))
        destination = str(path / "runs" / "serving" / "vae")
        self.version = listing.push(
            str(path / "model"), destination, {"config": config}
        )
        self.named = f"version {self.version.number} of {destination}"
        other = Affine(1.0, 0.0).export(path / "other")
        listing.push(other, str(path / "old" / "vae"), {})
        rng = np.random.default_rng(0)
        self.images = rng.integers(0, 256, [130, 28, 28], dtype=np.uint8)
        np.save(path / "many.npy", self.images)
        self.one, self.two = str(path / "one.png"), str(path / "two.png")
        Image.fromarray(self.images[0]).save(self.one)
        Image.fromarray(self.images[1]).convert("RGB").save(self.two)

    def elbo(self, images):
        """Returns the ELBO and its terms, from the model in memory."""
        grey = (images / 255).astype(np.float32)[..., np.newaxis]
        bits = fixed_noise.binarize(grey, SEED)
        noise = fixed_noise.normal(
            bits, SEED, samples=SAMPLES, latent_size=SIZE["latent_size"]
        )
        terms = self.vae.elbo_terms(bits, noise)
        return np.array([terms.elbo(), terms.reconstruction, terms.kl]).T


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp("use"))


@pytest.fixture
def use(place, tmp_path, capfd, monkeypatch, nothing_is_slow):
    """Returns a function of arguments that gives the code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)

    def use(*arguments):
        code = main.main([*arguments, "--root", str(place.path / "runs")])
        return code, *capfd.readouterr()

    return use


def tiles(path, columns, group=0):
    """Returns each image of a picture, uint8 [N, 28, 28], the empty ones too."""
    pixels = np.asarray(Image.open(path))
    found = []
    for top in range(2, len(pixels), 58):
        for column in range(columns):
            left = 2 + 58 * column + (6 * (column // group) if group else 0)
            tile = pixels[top : top + 56, left : left + 56]
            np.testing.assert_array_equal(tile[::2, ::2], tile[1::2, 1::2])
            found.append(tile[::2, ::2])
    return np.stack(found)


def close(shown, expected):
    """That bytes show values in [0, 1]."""
    np.testing.assert_allclose(shown / 255, expected[..., 0], atol=0.51 / 255)


def test_generate_shows_what_the_model_draws(place, use):
    code, out, _ = use("generate", "-n", "5", "--seed", "9")
    assert code == 0, out
    text = "digits.png: 5 modes of p(x|z), z from the prior, seed 9, by"
    assert out == f"{text} {place.named}\n"
    signature = tf.saved_model.load(place.version.path).signatures["generate"]
    drawn = signature(n=tf.constant(5), seed=tf.constant(9, tf.int64))
    shown = tiles("digits.png", 3)
    close(shown[:5], drawn["mode"].numpy())
    assert np.unique(shown[5]) == 128  # none
    code, _, _ = use("generate", "-n", "5", "--seed", "9", "--mean", "-o", "means.png")
    assert code == 0
    close(tiles("means.png", 3)[:5], drawn["mean"].numpy())


def test_generate_says_the_seed_that_it_chose(use):
    out = [use("generate", "-n", "1")[1] for _ in range(2)]
    chosen = [re.search(r"seed (\d+), by", text)[1] for text in out]
    assert chosen[0] != chosen[1]
    again = pathlib.Path("digits.png").read_bytes()
    assert use("generate", "-n", "1", "--seed", chosen[1])[0] == 0
    assert pathlib.Path("digits.png").read_bytes() == again


def test_reconstruct_shows_input_mode_and_mean(place, use):
    code, out, err = use("reconstruct", place.one, place.two)
    assert code == 0, out + err
    assert out == (
        f"reconstructed.png: 2 images, each as input, mode and mean, by {place.named}\n"
    )
    assert err == (
        f"{place.two}: of mode RGB, but grey and opaque; took its grey values\n"
    )
    grey = (place.images[:2] / 255).astype(np.float32)[..., np.newaxis]
    likelihood = place.vae.decode(place.vae.encode(grey).mean())
    shown = tiles("reconstructed.png", 3, 3)
    np.testing.assert_array_equal(shown[0::3], place.images[:2])
    close(shown[1::3], likelihood.mode().numpy().astype(np.float32))
    close(shown[2::3], likelihood.mean().numpy())


def test_reconstruct_puts_many_beside_each_other(place, use):
    code, _, _ = use("reconstruct", str(place.path / "many.npy"))
    assert code == 0
    shown = tiles("reconstructed.png", 21, 3)  # seven a row
    np.testing.assert_array_equal(shown[: 3 * 130 : 3], place.images)


def test_score_gives_each_image_its_elbo_the_lowest_first(place, use):
    code, out, err = use("score", place.one, place.two)
    assert code == 0, out + err
    head, columns, *lines = out.splitlines()
    assert head == (
        "nats per image, higher is better: the evidence lower bound, 3 samples of z "
        f"per image, fixed binarization, seed 11; {place.named}"
    )
    assert columns.split() == ["ELBO", "reconstruction", "KL", "image"]
    values = place.elbo(place.images[:2])
    names = np.array([place.one, place.two])
    order = np.argsort(values[:, 0])
    expected = [
        "  ".join([f"{e:8.2f}", f"{r:14.2f}", f"{k:6.2f}", name])
        for (e, r, k), name in zip(values[order], names[order])
    ]
    assert lines == expected


def test_score_as_json_is_nothing_else(place, use):
    path = str(place.path / "many.npy")
    code, out, err = use("score", "--json", path, place.two)
    assert code == 0, out + err
    assert err.count("\n") == 1  # the note on the colour image
    content = json.loads(out)
    images = content.pop("images")
    assert content == {
        "version": place.version.number,
        "path": place.version.path,
        "bound": "the evidence lower bound",
        "unit": "nats per image",
        "samples": SAMPLES,
        "binarization": "fixed",
        "seed": SEED,
    }
    values = place.elbo(np.concatenate([place.images, place.images[1:2]]))
    names = [*(f"{path}[{i}]" for i in range(130)), place.two]
    got = {each["image"]: each for each in images}
    assert list(got) == sorted(got, key=lambda name: got[name]["elbo"])
    for name, expected in zip(names, values):
        terms = [got[name][term] for term in ("elbo", "reconstruction", "kl")]
        np.testing.assert_allclose(terms, expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["generate", "-n", "0"], 2, "-n must be from 1 to 10000, got 0"),
        (["generate", "-n", "10001"], 2, "-n must be from 1 to 10000, got 10001"),
        (
            ["generate", "--seed", str(2**63)],
            2,
            f"--seed must be of 64 bits, got {2**63}",
        ),
        (
            ["generate", "-o", "digits.jpg"],
            2,
            "--output must be the name of a .png, got digits.jpg",
        ),
        (
            ["generate", "-o", "no/such/digits.png"],
            1,
            "no/such/digits.png can't be written: No such file or directory",
        ),
        (
            ["generate", "--version", "7"],
            2,
            "--version: the version must be one of those at {destination} ({number}), "
            "got 7",
        ),
        (
            ["score", "{one}", "--set", "push.destination={path}/nowhere"],
            1,
            "nothing is served at {path}/nowhere/vae: `run` first, or name the place "
            "by --root or --set push.destination=...",
        ),
        (
            ["score", "{one}", "--set", "push.destination={path}/old"],
            1,
            "the model must have the signature elbo, it lacks elbo: an older release "
            "exported it, train it anew",
        ),
        (["score", "{path}/no.png"], 2, "{path}/no.png: No such file or directory; "),
        (
            ["reconstruct", "{path}/large.npy"],
            2,
            "at most 1,000 images are shown in one picture, got 1,001",
        ),
        (
            ["reconstruct", "{path}/nan.npy"],
            2,
            "{path}/nan.npy: floats must be in [0, 1], got nan at row 0, column 0",
        ),
    ],
)
def test_what_is_wrong_is_said(place, use, arguments, code, message):
    np.save(place.path / "large.npy", np.zeros([1001, 28, 28], np.uint8))
    np.save(place.path / "nan.npy", np.full([28, 28], np.nan))
    texts = {
        "path": place.path,
        "one": place.one,
        "destination": os.path.dirname(place.version.path),
        "number": place.version.number,
    }
    got, out, err = use(*(argument.format(**texts) for argument in arguments))
    assert got == code, out + err
    assert f"vae-pipeline: {message.format(**texts)}" in err
    assert out == ""
    assert not list(pathlib.Path().glob("*.png*"))  # nothing half-written


def test_what_was_tampered_with_is_not_used(place, use, tmp_path):
    copy = tmp_path / "vae" / str(place.version.number)
    shutil.copytree(place.version.path, copy)
    (copy / "saved_model.pb").write_bytes(b"changed")
    code, _, err = use("generate", "--set", f"push.destination={tmp_path}")
    assert code == 1
    assert "saved_model.pb has SHA-256 " in err
    assert "nothing is served at " in err


def test_they_need_tensorflow_alone_and_a_pipe_may_end(place, tmp_path):
    """As `score ... | head -1` in a shell."""
    code = (
        "import sys; from pipeline import cli\n"
        "try:\n"
        "    cli.main(sys.argv[1:])\n"
        "finally:\n"
        "    absent = {'tfx', 'tensorflow_probability', 'tensorflow_datasets'}\n"
        "    assert not absent & set(sys.modules), absent & set(sys.modules)\n"
    )
    many = str(place.path / "many.npy")
    root = ["--root", str(place.path / "runs")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "score", *[many] * 60, *root],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
    )
    assert process.stdout.readline().startswith("nats per image")
    process.stdout.close()
    err = process.stderr.read()
    process.wait(60)
    assert "Traceback" not in err
