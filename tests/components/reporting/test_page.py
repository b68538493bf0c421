"""The report's page: its HTML as a browser parses it, and its texts."""

import base64
import json
import math
import re

import pytest

from components.reporting import facts, page
from tests.support.report_page import PNG, PageReader, make_elbo_drift, make_facts


def make_page(given=None, pictures=None):
    given = json.loads(json.dumps(given or make_facts(), allow_nan=False))
    return page.render_page(given, pictures or {})


def test_the_page_needs_nothing_else():
    text = make_page(pictures={"elbo_histogram": PNG, "rebuilt": PNG})
    reader = PageReader(text)
    assert "link" not in dict(reader.elements)
    assert "script" not in dict(reader.elements)
    assert not re.search(r"https?:|url\(|@import|//[a-z]", text)
    sources = [image["src"] for image in reader.all("img")]
    assert len(sources) == 2
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data, validate=True) == PNG
    assert all(image["alt"] for image in reader.all("img"))


def test_it_is_light_dark_and_printed():
    text = make_page()
    assert "@media (prefers-color-scheme: dark)" in text
    assert "@media print" in text
    assert {"name": "color-scheme", "content": "light dark"} in PageReader(text).all(
        "meta"
    )


def test_the_verdict_is_in_words_and_numbers():
    text = PageReader(make_page()).text
    assert "BLESSED" in text
    assert "mean ELBO over 1,000 test images is -99.50 nats, 15.50 above the floor" in (
        text
    )
    assert "It is better than the baseline: +0.5" in text
    assert "candidate's ELBO -99.50 nats per image, higher is better" in text
    assert "independent pixels -206.25 nats per image, the log-likelihood" in text
    assert "floor -115.00 the candidate's ELBO must be at least this" in text
    assert "baseline's ELBO -100.00 version 17, which was served" in text
    assert (
        "ratchet -0.50 with 95% confidence, the difference must be at least this; it "
        "is at least +0.38" in text
    )
    assert "ratchet by label" not in text
    assert "4 samples of z per image, fixed binarization, seed 0, 1,000 images" in text
    assert "IWAE -97.00 nats per image" in text
    assert "active latents 7 of 16" in text


def test_the_ratchet_of_each_label_is_in_the_table():
    text = PageReader(make_page(make_facts(class_tolerance=1.5))).text
    assert "ratchet by label -1.50 the same for the difference of each label" in text


def test_the_facts_of_an_earlier_release_make_a_page():
    found = make_facts()
    for key in ("confidence", "lower_end", "class_tolerance"):
        del found[key]
    assert "ratchet -0.50 the difference must be at least this" in (
        PageReader(make_page(found)).text
    )


def test_a_floor_without_a_number_is_shown_with_its_number():
    given = make_facts(floor=-206.25, is_floor_auto=True)
    assert (
        "floor -206.25 the candidate's ELBO must be above this, the log-likelihood of "
        "independent pixels (gate.elbo_floor is auto)"
    ) in PageReader(make_page(given)).text


def test_the_facts_of_an_older_release_have_a_page():
    given = make_facts()
    del given["independent_pixels"], given["is_floor_auto"]
    text = PageReader(make_page(given)).text
    assert "independent pixels" not in text
    assert "floor -115.00 the candidate's ELBO must be at least this" in text


def test_a_digit_that_got_worse_is_marked():
    reader = PageReader(make_page())
    rows = [each for each in reader.all("tr") if each.get("class") == "worse"]
    assert len(rows) == 1
    assert "3 500 -102.00 -100.03 -1.97 [-2.06, -1.88] worse 5 500 " in reader.text


def test_without_a_baseline_there_is_no_difference():
    text = PageReader(make_page(make_facts(baseline=False))).text
    assert "There is no baseline to compare with: version 17 is damaged." in text
    assert "baseline's ELBO none version 17 is damaged" in text
    assert "difference" not in text


def test_a_refusal_says_why():
    why = "ELBO -99.50 must be at least the floor, -1.00 nats per image"
    given = make_facts([why])
    reader = PageReader(make_page(given))
    assert f"REFUSED {why}" in reader.text
    assert any("refused" in each.get("class", "") for each in reader.all("section"))
    assert facts.list_scalars(given)["blessed"] == 0


def test_a_model_of_no_numbers_has_a_page():
    given = make_facts(["no number"], elbo=math.nan, problem="ValueError: no number")
    text = PageReader(make_page(given)).text
    assert "The candidate's mean ELBO is not a finite number." in text
    assert "candidate's ELBO not a number" in text
    assert "Not drawn: ValueError: no number" in text
    assert all(map(math.isfinite, facts.list_scalars(given).values()))


def test_what_the_facts_say_is_text_and_never_markup():
    reader = PageReader(make_page(make_facts(["<script>alert(1)</script>"])))
    assert "<script>alert(1)</script>" in reader.text
    assert reader.all("script") == []


def test_training_data_and_lineage():
    text = PageReader(make_page()).text
    assert (
        "2 epochs at 2,500 images/s; the best ELBO on the eval split, -110.50 nats per "
        "image, came after epoch 2." in text
    )
    assert "split images 3 5 train 10 9 1 test 5 5 0" in text
    assert "Not measured." in text
    assert "None: the data match the reviewed schema." in text
    assert "data f1a9 run key 5eed stack python 3.10.13 pushed /serving/vae/18" in text
    assert "latent_size: 16" in text
    assert '{"elbo": 1}' in text


def test_drift_and_anomalies_are_shown():
    feature = {"feature": "label", "kind": "drift", "measure": "L-infinity"}
    numbers = {"distance": 0.0125, "threshold": 0.1}
    found = {"baseline_version": 17, "features": [feature | numbers]}
    found["unchecked"] = ["no check of drift of row_mean: why"]
    data = facts.describe_data({"train": {3: 1}}, ["train: odd"], drift=found)
    text = PageReader(make_page(make_facts(**data))).text
    assert "Drift: from the data that version 17 was trained on." in text
    assert "label drift L-infinity 0.01250 0.10000" in text
    assert "no check of drift of row_mean: why" in text
    assert "train: odd" in text


def show_elbo_drift(report):
    """Returns the page's text about the served model's ELBO."""
    given = make_facts(elbo_drift=facts.describe_elbo_drift(report))
    text = PageReader(make_page(given)).text
    return text.partition("The served model's ELBO ")[2].partition(" Anomalies")[0]


def test_the_fall_of_the_served_models_elbo_is_shown_beside_the_distances():
    assert show_elbo_drift(make_elbo_drift()) == (
        "Version 17 has a fall of 3.00 nats, 0.6 standard errors from the test split "
        "of its own run to this run's. A fall of more than 8 standard errors stops a "
        "run. test split ELBO standard error images of its own run -100.00 3.00 10,000 "
        "of this run -103.00 4.00 1,000"
    )


def test_a_fall_that_was_accepted_is_shown_as_such():
    text = show_elbo_drift(make_elbo_drift(-150.0, accept_drift=True))
    assert "a fall of 50.00 nats, 10.0 standard errors from" in text
    assert "stops a run; this one was accepted. test split" in text


def test_a_fall_without_a_number_is_shown_as_such():
    report = make_elbo_drift(math.nan, math.nan, accept_drift=True)
    text = show_elbo_drift(report)
    assert "a fall of nan nats, nan standard errors" in text
    assert "of this run not a number not a number 1,000" in text


def test_why_the_fall_was_not_measured_is_shown():
    text = PageReader(make_page(make_facts(baseline=False))).text
    assert "The served model's ELBO Not measured: version 17 is damaged." in text


def test_the_page_of_an_older_release_has_no_fall():
    given = make_facts()
    del given["elbo_drift"]
    assert "The served model's ELBO" not in PageReader(make_page(given)).text


def test_the_scalars_are_those_that_runs_are_compared_by():
    scalars = facts.list_scalars(make_facts())
    assert scalars["elbo"] == -99.5
    assert scalars["iwae"] == -97.0
    assert scalars["independent_pixels"] == -206.25
    assert scalars["baseline_elbo"] == -100.0
    assert scalars["elbo_fall"] == 3.0
    assert scalars["elbo_fall_standard_errors"] == 0.6
    low, mean, high = (
        scalars[name] for name in ("difference_low", "difference", "difference_high")
    )
    assert low < mean < high
    assert (scalars["blessed"], scalars["pushed"], scalars["elbo_floor"]) == (
        1,
        1,
        -115,
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "not a number"), (math.inf, "∞"), (-math.inf, "-∞"), (-91.666, "-91.67")],
)
def test_numbers_as_text(value, text):
    assert page.format_nats(value) == text
