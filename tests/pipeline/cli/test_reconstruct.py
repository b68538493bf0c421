"""The command `reconstruct`, with a real export."""

import numpy as np

from tests.support.pushed_model import assert_fails, assert_shows, tiles


def test_reconstruct_shows_input_mode_and_mean(model_root, use):
    code, out, err = use("reconstruct", model_root.one, model_root.two)
    assert code == 0, out + err
    text = "reconstructed.png: 2 images, each as input, mode and mean, by"
    assert out == f"{text} {model_root.named}\n"
    assert err == (
        f"{model_root.two}: converted from mode RGB to grey values, without a loss\n"
    )
    grey = (model_root.images[:2] / 255).astype(np.float32)[..., np.newaxis]
    likelihood = model_root.vae.decode(model_root.vae.encode(grey).mean())
    shown = tiles("reconstructed.png", 3, 3)
    np.testing.assert_array_equal(shown[0::3], model_root.images[:2])
    assert_shows(shown[1::3], likelihood.mode().numpy().astype(np.float32))
    assert_shows(shown[2::3], likelihood.mean().numpy())


def test_reconstruct_puts_many_beside_each_other(model_root, use):
    code, _, _ = use("reconstruct", str(model_root.path / "many.npy"))
    assert code == 0
    shown = tiles("reconstructed.png", 21, 3)  # seven images in a row
    np.testing.assert_array_equal(shown[: 3 * 130 : 3], model_root.images)


def test_more_images_than_a_picture_shows_are_refused(use, tmp_path):
    path = tmp_path / "large.npy"
    np.save(path, np.zeros([1001, 28, 28], np.uint8))
    message = "at most 1,000 images are shown in one picture, got 1,001"
    assert_fails(use, ["reconstruct", str(path)], code=2, message=message)


def test_an_image_with_a_bad_value_is_refused(use, tmp_path):
    path = tmp_path / "nan.npy"
    np.save(path, np.full([28, 28], np.nan))
    message = f"{path}: floats must be in [0, 1], got nan at row 0, column 0"
    assert_fails(use, ["reconstruct", str(path)], code=2, message=message)


def test_a_picture_must_be_a_png(use, model_root):
    message = "--output must be the name of a .png, got pairs.jpg"
    arguments = ["reconstruct", model_root.one, "-o", "pairs.jpg"]
    assert_fails(use, arguments, code=2, message=message)
