"""The facts of a report's page, and a reader of the page."""

import html.parser

import numpy as np

from components.evaluation.elbo_fall import ElboDriftReport, ElboFall, MeanElbo
from components.evaluation.evaluation_result import (
    Difference,
    Evaluation,
    ModelResult,
)
from components.evaluation.gate_result import GateResult, Thresholds
from components.evaluation.measure import Measurements
from components.reporting import facts
from components.reporting.measurements import ScoredImages
from pipeline.config.loading import decisive, resolve

PNG = b"\x89PNG\r\n\x1a\n of the histogram"
CONFIG = decisive(resolve("demo"))
THRESHOLDS = Thresholds(
    elbo_floor=CONFIG["gate"]["elbo_floor"],
    tolerance=CONFIG["gate"]["tolerance"],
    confidence=CONFIG["gate"]["confidence"],
    class_tolerance=CONFIG["gate"]["class_tolerance"],
)
DIFFERENCE = Difference(
    images=1_000, mean=0.5, standard_error=0.07, lower_end=0.38, confidence=0.95
)


class PageReader(html.parser.HTMLParser):
    """A parser of HTML that keeps elements and text, and checks for unclosed tags."""

    VOID = ("meta", "img", "br", "link", "input")

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], ""
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag not in ("code", "small", "strong"):
            self.text += " "

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def make_elbo_drift(now=-103.0, error=4.0, **changes):
    """Returns ElboDrift's report about version 17.

    Args:
      now: the mean ELBO on this run's test split; before it was -100.
      error: its standard error; before it was 3.
      changes: other attributes.
    """
    fall = ElboFall(
        before=MeanElbo(elbo=-100.0, standard_error=3.0, images=10_000),
        now=MeanElbo(elbo=now, standard_error=error, images=1_000),
    )
    attributes = {
        **{"baseline_version": 17, "fall": fall, "unchecked": "", "threshold": 8.0},
        "accept_drift": False,
    }
    return ElboDriftReport(**{**attributes, **changes})


def make_no_elbo_drift(why="nothing was served"):
    """Returns ElboDrift's report of a run without a baseline."""
    return make_elbo_drift(baseline_version=None, fall=None, unchecked=why)


def _measured(elbo):
    return ModelResult(elbo=elbo, reconstruction=elbo + 20.0, kl=20.0, elbo_by_label={})


def make_facts(refusals=(), baseline=True, elbo=-100.0, **changes):
    """Returns the facts of a report page, computed as the component computes them."""
    rng = np.random.default_rng(0)
    # The candidate is worse on the images of digit 3, and better on the others.
    labels = np.repeat([3, 5], 500)
    of_candidate = np.full(1000, elbo) + np.where(labels == 3, -2.0, 3.0)
    test = ScoredImages(
        pixels=np.zeros([1000, 28, 28, 1]),
        labels=labels,
        elbo=of_candidate,
        baseline=rng.normal(elbo, 1.0, 1000) if baseline else None,
        loc=np.zeros([1000, 2]),
    )
    found = Evaluation(
        candidate=_measured(elbo + 0.5),
        baseline=_measured(elbo) if baseline else None,
        independent_pixels=-206.25,
        images=1000,
    )
    bounds = Measurements(1000, elbo, elbo + 20, 20.0, elbo + 3, 64, 7, 16)
    curves = {
        ("train", "images_per_second"): [(1, 2000.0), (2, 3000.0)],
        ("eval", "elbo"): [(1, -120.0), (2, -110.5)],
    }
    version, why = (17, "") if baseline else (None, "version 17 is damaged")
    return {
        "made": "2019-03-08 12:00 UTC",
        "problem": "",
        "training": facts.describe_training(curves),
        "bounds": facts.describe_bounds(bounds),
        **facts.describe_gate(
            found,
            test,
            gate=GateResult(
                refusals=tuple(refusals),
                elbo=found.candidate.elbo,
                baseline_elbo=found.baseline.elbo if found.baseline else None,
                estimate=(
                    "the evidence lower bound, 4 samples of z per image, fixed "
                    "binarization, seed 0, 1,000 images of the test split"
                ),
                pushed=None if refusals else "/serving/vae/18",
                difference=DIFFERENCE if baseline else None,
            ),
            thresholds=THRESHOLDS,
            baseline_version=version,
            why_no_baseline=why,
        ),
        **facts.describe_data({"train": {3: 9, 5: 1}, "test": {3: 5}}, [], drift=None),
        "elbo_drift": facts.describe_elbo_drift(
            make_elbo_drift() if baseline else make_no_elbo_drift(why)
        ),
        **facts.describe_lineage(
            {"run_key": "5eed", "config": CONFIG},
            "f1a9",
            stack={"python": "3.10.13"},
            pushed="/serving/vae/18",
            manifest='{"elbo": 1}',
        ),
        "run": {"id": "run-1", "steps": []},
        **changes,
    }
