"""The command `score`, with a real export."""

import json
import pathlib
import subprocess
import sys

import numpy as np

from tests.support.pushed_model import SAMPLES, SEED, assert_fails


def test_score_gives_each_image_its_elbo_the_lowest_first(model_root, use):
    code, out, err = use("score", model_root.one, model_root.two)
    assert code == 0, out + err
    head, columns, *lines = out.splitlines()
    assert head == (
        "nats per image, higher is better: the evidence lower bound, 3 samples of z "
        f"per image, fixed binarization, seed 11; {model_root.named}"
    )
    assert columns.split() == ["ELBO", "reconstruction", "KL", "image"]
    values = model_root.elbo(model_root.images[:2])
    names = np.array([model_root.one, model_root.two])
    order = np.argsort(values[:, 0])
    expected = [
        "  ".join([f"{e:8.2f}", f"{r:14.2f}", f"{k:6.2f}", name])
        for (e, r, k), name in zip(values[order], names[order])
    ]
    assert lines == expected


def test_score_as_json_is_nothing_else(model_root, use):
    path = str(model_root.path / "many.npy")
    code, out, err = use("score", "--json", path, model_root.two)
    assert code == 0, out + err
    assert err.count("\n") == 1  # the note on the colour image
    content = json.loads(out)
    images = content.pop("images")
    assert content == {
        "version": model_root.version.number,
        "path": model_root.version.path,
        "bound": "the evidence lower bound",
        "unit": "nats per image",
        "samples": SAMPLES,
        "binarization": "fixed",
        "seed": SEED,
    }
    values = model_root.elbo(
        np.concatenate([model_root.images, model_root.images[1:2]])
    )
    names = [*(f"{path}[{i}]" for i in range(130)), model_root.two]
    got = {each["image"]: each for each in images}
    assert list(got) == sorted(got, key=lambda name: got[name]["elbo"])
    for name, expected in zip(names, values):
        terms = [got[name][term] for term in ("elbo", "reconstruction", "kl")]
        np.testing.assert_allclose(terms, expected, rtol=1e-4)


def test_an_image_that_is_not_there_is_named(use, tmp_path):
    path = tmp_path / "no.png"
    message = f"{path}: No such file or directory; "
    assert_fails(use, ["score", str(path)], code=2, message=message)


def test_it_needs_tensorflow_alone_and_its_reader_may_leave(model_root, tmp_path):
    """The shell command is `score ... | head -1`."""
    code = (
        "import sys; from pipeline.cli import main\n"
        "try:\n"
        "    main.main(sys.argv[1:])\n"
        "finally:\n"
        "    absent = {'tfx', 'tensorflow_probability', 'tensorflow_datasets'}\n"
        "    assert not absent & set(sys.modules), absent & set(sys.modules)\n"
    )
    many = str(model_root.path / "many.npy")
    root = ["--root", str(model_root.path / "runs")]
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
