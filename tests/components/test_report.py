"""The Report component for a model that cannot draw digits."""

import numpy as np
import pytest
import tensorflow as tf

from components import report
from components.reporting.measurements import ScoredImages

TEST = ScoredImages(
    pixels=np.zeros([20, 28, 28, 1], np.float32),
    labels=np.arange(20) % 10,
    elbo=np.linspace(-100.0, -90.0, 20),
    baseline=None,
    loc=np.zeros([20, 2], np.float32),
)


class Signatures(dict):
    """Signatures that all raise the same error."""

    def __init__(self, error):
        self._error = error

    def __missing__(self, name):
        raise self._error


def test_a_models_fault_is_in_its_report():
    error = tf.errors.InvalidArgumentError(None, None, "no such\nsignature")
    pictures, problem = report._draw_digits(TEST, Signatures(error))
    assert pictures == {}
    assert problem == "InvalidArgumentError: no such signature"


def test_the_machines_fault_is_in_no_report():
    error = tf.errors.ResourceExhaustedError(None, None, "no memory")
    with pytest.raises(tf.errors.ResourceExhaustedError):
        report._draw_digits(TEST, Signatures(error))
