"""The command `generate`, with a real export."""

import pathlib
import re

import numpy as np
import pytest
import tensorflow as tf

from tests.support.pushed_model import assert_fails, assert_shows, tiles


def test_generate_shows_what_the_model_draws(model_root, use):
    code, out, _ = use("generate", "-n", "5", "--seed", "9")
    assert code == 0, out
    text = "digits.png: 5 modes of p(x|z), z from the prior, seed 9, by"
    assert out == f"{text} {model_root.named}\n"
    signature = tf.saved_model.load(model_root.version.path).signatures["generate"]
    drawn = signature(n=tf.constant(5), seed=tf.constant(9, tf.int64))
    shown = tiles("digits.png", 3)
    assert_shows(shown[:5], drawn["mode"].numpy())
    assert np.unique(shown[5]) == 128  # an empty cell
    code, _, _ = use("generate", "-n", "5", "--seed", "9", "--mean", "-o", "means.png")
    assert code == 0
    assert_shows(tiles("means.png", 3)[:5], drawn["mean"].numpy())


def test_generate_prints_the_seed_that_it_chose(use):
    out = [use("generate", "-n", "1")[1] for _ in range(2)]
    chosen = [re.search(r"seed (\d+), by", text)[1] for text in out]
    assert chosen[0] != chosen[1]
    again = pathlib.Path("digits.png").read_bytes()
    assert use("generate", "-n", "1", "--seed", chosen[1])[0] == 0
    assert pathlib.Path("digits.png").read_bytes() == again


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["-n", "0"], 2, "-n must be from 1 to 10000, got 0"),
        (["-n", "10001"], 2, "-n must be from 1 to 10000, got 10001"),
        (["--seed", str(2**63)], 2, f"--seed must be of 64 bits, got {2**63}"),
        (
            ["-o", "digits.jpg"],
            2,
            "--output must be the name of a .png, got digits.jpg",
        ),
        (
            ["-o", "no/such/digits.png"],
            1,
            "no/such/digits.png can't be written: No such file or directory",
        ),
    ],
)
def test_an_option_that_cannot_be_used_is_named(use, arguments, code, message):
    assert_fails(use, ["generate", *arguments], code=code, message=message)
