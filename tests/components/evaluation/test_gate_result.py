"""The gate result: its VERDICT.json, and the errors about a file that is not valid."""

import dataclasses
import json
import math

import pytest

from components.evaluation.evaluation_result import Difference
from components.evaluation.gate_result import GateResult, GateResultError, Thresholds

# The form that earlier releases wrote, whose gate knew no standard error.
OLD_TEXT = """{
  "refusals": [],
  "elbo": -95.25,
  "baseline_elbo": -96.0,
  "estimate": "the evidence lower bound, 2 samples of z per image",
  "pushed": "s3://models/serving/vae/1795457098"
}"""
TEXT = """{
  "refusals": [],
  "elbo": -95.25,
  "baseline_elbo": -96.0,
  "estimate": "the evidence lower bound, 2 samples of z per image",
  "pushed": "s3://models/serving/vae/1795457098",
  "difference": {
    "images": 10000,
    "mean": 0.75,
    "standard_error": 0.05,
    "lower_end": 0.667751,
    "confidence": 0.95
  },
  "independent_pixels": -206.25
}"""
DIFFERENCE = Difference(
    images=10_000, mean=0.75, standard_error=0.05, lower_end=0.667751, confidence=0.95
)
RESULT = GateResult(
    refusals=(),
    elbo=-95.25,
    baseline_elbo=-96.0,
    estimate="the evidence lower bound, 2 samples of z per image",
    pushed="s3://models/serving/vae/1795457098",
    difference=DIFFERENCE,
    independent_pixels=-206.25,
)
OLD_RESULT = dataclasses.replace(RESULT, difference=None, independent_pixels=None)
REASONS = ("ELBO -290.00 must be at least the floor", "InfraCheck: no answer")
REFUSED = GateResult(
    refusals=REASONS,
    elbo=-290.0,
    baseline_elbo=None,
    estimate="an estimate",
    pushed=None,
)


def test_the_file_is_that_of_earlier_releases_with_two_more_keys():
    assert RESULT.to_json() == TEXT
    assert GateResult.from_json(TEXT, "VERDICT.json") == RESULT


def test_the_file_of_an_earlier_release_is_read():
    assert GateResult.from_json(OLD_TEXT, "VERDICT.json") == OLD_RESULT


@pytest.mark.parametrize(("floor", "expected"), [(-100.0, -100.0), ("auto", -206.25)])
def test_the_floor_is_a_number_even_if_it_is_auto(floor, expected):
    thresholds = Thresholds(
        elbo_floor=floor, tolerance=0.5, confidence=0.95, class_tolerance=None
    )
    assert thresholds.find_floor(independent_pixels=-206.25) == expected


@pytest.mark.parametrize("result", [RESULT, OLD_RESULT, REFUSED])
def test_what_was_written_is_read(tmp_path, result):
    result.write(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["VERDICT.json"]
    assert GateResult.read(str(tmp_path)) == result


@pytest.mark.parametrize("elbo", [math.nan, math.inf, -math.inf])
def test_an_elbo_that_is_not_finite_is_kept(elbo):
    result = GateResult(
        refusals=("ELBO",),
        elbo=elbo,
        baseline_elbo=None,
        estimate="an estimate",
        pushed=None,
    )
    found = GateResult.from_json(result.to_json(), "VERDICT.json").elbo
    assert found == elbo or (math.isnan(found) and math.isnan(elbo))


def test_a_difference_of_one_image_is_kept():
    difference = dataclasses.replace(
        DIFFERENCE, images=1, standard_error=math.inf, lower_end=-math.inf
    )
    result = dataclasses.replace(RESULT, difference=difference)
    assert GateResult.from_json(result.to_json(), "VERDICT.json") == result


def test_a_key_of_a_later_release_does_not_matter():
    text = json.dumps({**json.loads(TEXT), "of_later": 1})
    assert GateResult.from_json(text, "VERDICT.json") == RESULT


@pytest.mark.parametrize("key", json.loads(OLD_TEXT))
def test_a_missing_key_is_named_with_its_file(tmp_path, key):
    content = json.loads(OLD_TEXT)
    del content[key]
    (tmp_path / "VERDICT.json").write_text(json.dumps(content))
    with pytest.raises(GateResultError) as error:
        GateResult.read(str(tmp_path))
    assert str(error.value) == f"{tmp_path}/VERDICT.json must have the key {key}"


def test_all_missing_keys_are_named():
    with pytest.raises(GateResultError) as error:
        GateResult.from_json('{"elbo": -95.25, "estimate": ""}', "VERDICT.json")
    assert str(error.value) == (
        "VERDICT.json must have the key refusals, baseline_elbo, pushed"
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("refusals", "no", "refusals must be a list of texts, got 'no'"),
        ("refusals", [1], "refusals must be a list of texts, got [1]"),
        ("elbo", "high", "elbo must be a number, got 'high'"),
        ("elbo", None, "elbo must be a number, got None"),
        ("elbo", True, "elbo must be a number, got True"),
        (
            "independent_pixels",
            "low",
            "independent_pixels must be a number or null, got 'low'",
        ),
        ("baseline_elbo", [], "baseline_elbo must be a number or null, got []"),
        ("estimate", 4, "estimate must be a text, got 4"),
        ("pushed", 7, "pushed must be a text or null, got 7"),
        (
            "difference",
            0.75,
            "difference must be null or an object with the keys images, mean, "
            "standard_error, lower_end, confidence, got 0.75",
        ),
        (
            "difference",
            {"mean": 0.75},
            "difference must be null or an object with the keys images, mean, "
            "standard_error, lower_end, confidence, got {'mean': 0.75}",
        ),
        (
            "difference",
            {**dataclasses.asdict(DIFFERENCE), "images": 0.5},
            "difference: images must be an integer, got 0.5",
        ),
        (
            "difference",
            {**dataclasses.asdict(DIFFERENCE), "mean": None},
            "difference: mean must be a number, got None",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named(key, value, message):
    text = json.dumps({**json.loads(TEXT), key: value})
    with pytest.raises(GateResultError) as error:
        GateResult.from_json(text, "s3://bucket/VERDICT.json")
    assert message in str(error.value)
    assert str(error.value).startswith("s3://bucket/VERDICT.json: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"refusals": ', "VERDICT.json must be JSON (JSONDecodeError: "),
        (b"\xff", "VERDICT.json must be JSON (UnicodeDecodeError: "),
        ("[" * 100_000, "VERDICT.json must be JSON (RecursionError: "),
        ("[]", "VERDICT.json must be a JSON object, got []"),
    ],
)
def test_what_is_no_json_object_is_named(text, message):
    with pytest.raises(GateResultError) as error:
        GateResult.from_json(text, "VERDICT.json")
    assert str(error.value).startswith(message)


def test_a_folder_without_one_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"VERDICT\.json"):
        GateResult.read(str(tmp_path))


def test_no_refusal_is_a_blessing():
    assert RESULT.is_blessed
    assert RESULT.describe() == "BLESSED"


def test_a_refusal_gives_its_reasons():
    assert not REFUSED.is_blessed
    assert REFUSED.describe() == (
        "REFUSED: ELBO -290.00 must be at least the floor; InfraCheck: no answer"
    )


def test_the_difference_is_described_with_its_lower_end():
    assert RESULT.describe_difference() == (
        "+0.75 (with 95% confidence at least +0.67)"
    )
    assert OLD_RESULT.describe_difference() == "+0.75"  # higher is better
    assert REFUSED.describe_difference() == ""


@pytest.mark.parametrize(
    ("confidence", "text"),
    [(0.95, "95%"), (0.999, "99.9%"), (0.9999999, "99.99999%"), (0.6, "60%")],
)
def test_a_confidence_is_described_with_all_its_digits(confidence, text):
    difference = dataclasses.replace(DIFFERENCE, confidence=confidence)
    assert difference.describe() == f"+0.75 (with {text} confidence at least +0.67)"


def test_the_version_is_the_last_part_of_where_it_was_pushed():
    assert RESULT.pushed_version == 1795457098
    assert REFUSED.pushed_version is None
