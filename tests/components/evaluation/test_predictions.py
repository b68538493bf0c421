"""The predictions for TFMA, read by TensorFlow's own parser."""

import numpy as np
import pytest
import tensorflow as tf

from components.evaluation.predictions import name_features, write_predictions
from components.evaluation.scores import Scores, ScoresError


def make_scores(images, shift=0.0):
    images = np.asarray(images)
    return Scores(
        images=images.astype(np.int64),
        labels=images % 10,
        elbo=images - 90.5 + shift,
        reconstruction=images - 70.25 + shift,
        kl=np.full(len(images), 20.25),
    )


def read(folder):
    """Returns each example's features, as numbers by name."""
    files = tf.io.gfile.glob(f"{folder}/Split-test/*")
    found = []
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP"):
        feature = tf.train.Example.FromString(record.numpy()).features.feature
        values = {name: feature[name].float_list.value[:] for name in feature}
        values["label"] = feature["label"].int64_list.value[:]
        found.append({name: value for name, (value,) in values.items()})
    return found


def test_each_image_has_the_scores_of_both_models_and_their_difference(tmp_path):
    candidate = make_scores([2, 0, 1])
    write_predictions(
        str(tmp_path),
        candidate,
        baseline=make_scores([0, 1, 2], shift=-1.5),
        independent_pixels=np.array([-200.0, -210.5, -220.0]),
    )
    assert read(tmp_path) == [
        {
            "label": image,
            "candidate_elbo": image - 90.5,
            "candidate_reconstruction": image - 70.25,
            "candidate_kl": 20.25,
            "baseline_elbo": image - 92.0,
            "baseline_reconstruction": image - 71.75,
            "baseline_kl": 20.25,
            "difference": 1.5,
            "independent_pixels": log_likelihood,
            "above_independent_pixels": image - 90.5 - log_likelihood,
        }
        for image, log_likelihood in ((2, -220.0), (0, -200.0), (1, -210.5))
    ]


def test_without_a_baseline_there_are_the_candidates_alone(tmp_path):
    write_predictions(
        str(tmp_path),
        make_scores([0]),
        baseline=None,
        independent_pixels=np.array([-200.0]),
    )
    (features,) = read(tmp_path)
    of_pixels = ("independent_pixels", "above_independent_pixels")
    assert set(features) == {"label", *name_features("candidate").values(), *of_pixels}


def test_a_difference_that_is_no_number_is_written_as_such(tmp_path):
    infinite = make_scores([0], shift=np.inf)
    write_predictions(
        str(tmp_path),
        infinite,
        baseline=infinite,
        independent_pixels=np.array([-200.0]),
    )
    (features,) = read(tmp_path)
    assert features["candidate_elbo"] == features["baseline_elbo"] == np.inf
    assert np.isnan(features["difference"])


def test_scores_of_other_images_are_an_error(tmp_path):
    with pytest.raises(ScoresError, match="number 1 of the baseline and number 0"):
        write_predictions(
            str(tmp_path),
            make_scores([1, 0]),
            baseline=make_scores([4, 1]),
            independent_pixels=np.zeros(2),
        )


@pytest.mark.parametrize(
    ("images", "got"),
    [
        ([0], "1 scores of images 0 to 0"),
        ([0, 1, 2], "3 scores of images 0 to 2"),
        ([0, 2], "2 scores of images 0 to 2"),
        ([0, 0], "2 scores of images 0 to 0"),
        ([], "0 scores of images with no number"),
    ],
)
def test_scores_of_another_test_split_are_an_error(tmp_path, images, got):
    with pytest.raises(ScoresError) as error:
        write_predictions(
            str(tmp_path),
            make_scores(images),
            baseline=None,
            independent_pixels=np.zeros(2),
        )
    assert str(error.value) == (
        "the candidate's scores must be of the 2 images of the test split, once each, "
        f"got {got}: run the step CandidateScores again"
    )
