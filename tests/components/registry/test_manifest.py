"""Manifests: the digests of the files, and facts about the model."""

import dataclasses
import hashlib
import json
import pathlib
import re
import subprocess

import pytest

from components.evaluation.estimate import Estimate
from components.registry.manifest import (
    Baseline,
    Manifest,
    ManifestError,
    RolledBack,
    combine_digests,
    compute_file_digests,
)
from tests.support.places import FILES, write_model

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
OF_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


@pytest.fixture
def model(tmp_path):
    return write_model(tmp_path / "model")


def test_digests_of_files(model):
    pathlib.Path(model, "MANIFEST.json").write_text(
        "not of the model", encoding="utf-8"
    )
    pathlib.Path(model, "variables", "MANIFEST.json").write_bytes(b"abc")
    digests = compute_file_digests(model)
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    expected["variables/MANIFEST.json"] = OF_ABC
    assert digests == expected
    assert digests["saved_model.pb"] == OF_ABC
    assert digests["variables/variables.index"] == OF_NOTHING
    assert list(digests) == sorted(digests)


def test_digests_of_objects(place):
    for name, data in FILES.items():
        place.write(f"7/{name}", data)
    place.write("7/MANIFEST.json", b"not of the model")
    place.write("77/saved_model.pb", b"of another version")
    expected = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert compute_file_digests(f"{place.uri}/7") == expected


def test_a_large_file_is_read_in_pieces(model):
    data = bytes(range(256)) * 10_000
    pathlib.Path(model, "large").write_bytes(data)
    assert compute_file_digests(model)["large"] == hashlib.sha256(data).hexdigest()


def test_one_digest_is_that_of_the_lines_of_sha256sum(model):
    names = sorted(FILES)
    command = ["sha256sum", *names]
    lines = subprocess.run(command, cwd=model, check=True, capture_output=True).stdout
    digests = compute_file_digests(model)
    assert combine_digests(digests) == hashlib.sha256(lines).hexdigest()
    assert combine_digests(dict(reversed(digests.items()))) == combine_digests(digests)


def test_one_digest_depends_on_names_and_contents():
    digests = {
        combine_digests(files)
        for files in ({"a": "0"}, {"b": "0"}, {"a": "1"}, {"a": "0", "b": "0"}, {})
    }
    assert len(digests) == 5


# Typed facts. The content is that of a manifest of an older release.

CONTENT = {
    "singleprint": "1/2/3",
    "elbo": {
        **{"elbo": -90.5, "reconstruction": -70, "kl": 20.5},
        **{"unit": "nats per image", "split": "test", "images": 500},
    },
    "baseline": {"version": 11, "digest": "d1"},
    "data_fingerprint": "f1",
    "spans": [{"span": 7, "fingerprint": "f7"}],
    "run_key": "k1",
    "config": {
        "model": {"latent_size": 3, "likelihood": "continuous_bernoulli"},
        "gate": {"samples": 4, "seed": 9, "elbo_floor": -120.0},
        "of_later": {"a": 1},
    },
    "stack": {"python": "3.10.13"},
    "rolled_back": {"from": 12, "to": 11, "by": "me@here", "why": "blurred", "at": "t"},
    "of_later": {"kept": [1, None]},
}


def test_a_manifest_gives_its_facts_typed():
    manifest = Manifest.from_content(CONTENT)
    assert (manifest.elbo, manifest.reconstruction, manifest.kl) == (-90.5, -70, 20.5)
    assert (manifest.images, manifest.samples, manifest.seed) == (500, 4, 9)
    assert manifest.model.latent_size == 3
    assert manifest.model.is_binary is False
    assert manifest.baseline == Baseline(version=11, digest="d1")
    assert (manifest.data_fingerprint, manifest.run_key) == ("f1", "k1")
    assert manifest.singleprint == "1/2/3"
    assert manifest.rolled_back == RolledBack(
        replaced=12, to=11, by="me@here", why="blurred", at="t"
    )
    assert manifest.rolled_back.to_content() == CONTENT["rolled_back"]


def test_a_manifest_has_the_log_likelihood_beside_the_elbo():
    elbo = {**CONTENT["elbo"], "independent_pixels": -206.25}
    manifest = Manifest.from_content({**CONTENT, "elbo": elbo})
    assert manifest.independent_pixels == -206.25
    assert Manifest.from_content(CONTENT).independent_pixels is None


@pytest.mark.parametrize(("value", "error"), [(0.25, 0.25), (1, 1), (None, None)])
def test_a_manifest_may_have_the_standard_error_of_its_elbo(value, error):
    elbo = {**CONTENT["elbo"], "standard_error": value}
    assert Manifest.from_content({"elbo": elbo}).standard_error == error


def test_a_manifest_of_an_old_release_has_none_for_what_it_lacks():
    manifest = Manifest.from_content({"elbo": {"elbo": -90.5}, "baseline": None})
    assert manifest.elbo == -90.5
    others = dataclasses.asdict(manifest)
    for name in ("content", "digest", "files", "elbo"):
        del others[name]
    assert set(others.values()) == {None}


def test_a_manifest_before_there_were_choices_names_the_only_model_there_was():
    old = {"network": "dense", "latent_size": 1, "base_depth": 32, "hidden_units": 512}
    model = Manifest.from_content({"config": {"model": {**old, "beta": 1.0}}}).model
    assert (model.latent_size, model.hidden_units) == (1, 512)
    assert (model.posterior, model.prior) == ("full", "standard")
    assert model.likelihood == "bernoulli"


def test_what_is_read_is_written_again_with_unknown_keys():
    files = {"saved_model.pb": OF_ABC}
    full = {"digest": combine_digests(files), **CONTENT, "files": files}
    text = json.dumps(full, indent=2) + "\n"
    manifest = Manifest.from_json(text, "/serving/7")
    assert manifest.to_json() == text
    assert (manifest.digest, manifest.files) == (full["digest"], files)


def test_the_files_digests_are_added_for_the_push():
    files = {"saved_model.pb": OF_ABC}
    manifest = Manifest.from_content(CONTENT).with_files(files)
    assert list(manifest.content) == ["digest", *CONTENT, "files"]
    assert manifest.digest == manifest.content["digest"] == combine_digests(files)
    assert Manifest.from_json(manifest.to_json(), "/serving/7") == manifest
    others = {"saved_model.pb": OF_NOTHING}
    assert manifest.with_files(others).digest == combine_digests(others)


def test_a_rollback_keeps_all_but_the_files():
    files = {"saved_model.pb": OF_ABC}
    again = RolledBack(replaced=13, to=12, by="you@there", why="worse", at="now")
    manifest = Manifest.from_content(CONTENT).with_files(files).with_rollback(again)
    assert manifest.content == {**CONTENT, "rolled_back": again.to_content()}
    assert manifest.rolled_back == again
    assert (manifest.digest, manifest.files) == ("", {})


def test_a_singleprint_is_added():
    manifest = Manifest.from_content({"run_key": "k1"}).with_singleprint("4/5")
    assert manifest.content == {"singleprint": "4/5", "run_key": "k1"}
    assert manifest.singleprint == "4/5"


@pytest.mark.parametrize("baseline", [None, Baseline(11, "d1")])
def test_the_manifest_of_a_run_has_the_keys_of_earlier_releases(baseline):
    manifest = Manifest.from_run(
        elbo=CONTENT["elbo"],
        baseline=baseline,
        data_fingerprint="f1",
        spans=CONTENT["spans"],
        provenance={"run_key": "k1", "config": CONTENT["config"]},
        stack=CONTENT["stack"],
    )
    expected = {**CONTENT, "baseline": baseline and {"version": 11, "digest": "d1"}}
    for key in ("singleprint", "rolled_back", "of_later"):
        del expected[key]
    assert manifest.content == expected
    assert list(manifest.content) == list(expected)
    assert manifest.baseline == baseline


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"elbo": -90.5}, "'elbo' must be an object, got -90.5"),
        ({"elbo": {"elbo": "high"}}, "'elbo' must be a number, got 'high'"),
        ({"elbo": {"elbo": True}}, "'elbo' must be a number, got True"),
        ({"elbo": {"images": 1.5}}, "'images' must be an integer, got 1.5"),
        (
            {"elbo": {"standard_error": "0.3"}},
            "'standard_error' must be a number, got '0.3'",
        ),
        ({"config": []}, "'config' must be an object, got []"),
        ({"config": {"gate": {"seed": "9"}}}, "'seed' must be an integer, got '9'"),
        ({"run_key": 7}, "'run_key' must be a text, got 7"),
        ({"baseline": {"version": 11}}, "'baseline' has no 'digest'"),
        ({"baseline": {"digest": "d1"}}, "'baseline' has no 'version'"),
        (
            {"rolled_back": {**CONTENT["rolled_back"], "from": None}},
            "'rolled_back' has no 'from'",
        ),
        (
            {"rolled_back": {**CONTENT["rolled_back"], "why": 1}},
            "'why' must be a text, got 1",
        ),
    ],
)
def test_a_value_of_the_wrong_type_is_named(content, message):
    with pytest.raises(ManifestError, match=f"^{re.escape(message)}$"):
        Manifest.from_content(content)
    files = {"saved_model.pb": OF_ABC}
    full = {"digest": combine_digests(files), **content, "files": files}
    with pytest.raises(ManifestError) as error:
        Manifest.from_json(json.dumps(full), "/serving/7")
    assert str(error.value) == (f"MANIFEST.json is not one that was pushed ({message})")


ODD = {
    "NaN": "NaN",
    "infinity": "1e999",
    "a number": "7",
    "a huge number": "1" * 400,
    "a number of 5,000 digits": "1" * 5_000,
    "a text": '"x"',
    "half a character": r'"\ud800"',
    "a null character": r'"a\u0000b"',
    "a list": "[1]",
    "an object": '{"x": [{}]}',
    "nested lists": "[" * 900 + "]" * 900,
    "true": "true",
    "null": "null",
}
PATHS = [
    *(("digest",), ("files",), ("files", "a"), ("elbo",), ("elbo", "elbo")),
    *(("elbo", "images"), ("elbo", "standard_error"), ("elbo", "independent_pixels")),
    *(("config",), ("config", "gate"), ("config", "gate", "samples")),
    *(("config", "gate", "seed"), ("config", "model"), ("config", "model", "network")),
    *(("config", "model", "latent_dim"), ("baseline",), ("baseline", "version")),
    *(("baseline", "digest"), ("data_fingerprint",), ("spans",), ("spans", 0)),
    *(("spans", 0, "span"), ("spans", 0, "fingerprint"), ("run_key",)),
    *(("singleprint",), ("stack",), ("rolled_back",), ("rolled_back", "from")),
    *(("rolled_back", "why"), ("rolled_back", "at"), ("unknown",)),
]


def odd_manifest(path, text):
    """Returns the text of a manifest with an odd value at a path of keys."""
    files = {"a": "0"}
    content = {
        "digest": combine_digests(files),
        "files": files,
        "elbo": {"elbo": -90.0, "images": 7},
        "config": {"gate": {"samples": 4, "seed": 0}, "model": {"network": "dense"}},
        "baseline": {"version": 7, "digest": "x"},
        "spans": [{"span": 7, "fingerprint": "x"}],
        "stack": {},
        "rolled_back": {"from": 7, "to": 6, "by": "a", "why": "b", "at": "c"},
    }
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = "ODD"
    return json.dumps(content).replace('"ODD"', text)


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_value_anywhere_is_read_or_refused_in_words(kind):
    for path in PATHS:
        message, shown = "", ""
        try:
            manifest = Manifest.from_json(odd_manifest(path, ODD[kind]), "7")
            # What `versions` makes of it must have no error.
            estimate = Estimate.from_manifest(manifest)
            shown = f"{estimate and estimate.describe()} {manifest.to_json()}"
            shown += f"{manifest.elbo or 0:.2f} {manifest.independent_pixels or 0:.2f}"
            shown.encode()
        except ManifestError as error:
            message = str(error)
        refusal = "MANIFEST.json is not one that was pushed ("
        assert shown or message.startswith(refusal), path
        assert len(message) < 1_000, path


@pytest.mark.parametrize(
    ("path", "kind", "why"),
    [
        (("elbo", "elbo"), "NaN", "'elbo' must be a finite number, got nan"),
        (("unknown",), "infinity", "'unknown' must be a finite number, got inf"),
        (("run_key",), "a huge number", "'run_key' must be an integer of at most 64"),
        (("run_key",), "half a character", "'run_key' must be a text that UTF-8 can"),
        (("rolled_back",), "a text", "'rolled_back' must be an object, got 'x'"),
        (("spans",), "a list", "'spans' must be a list of objects"),
        (("spans",), "a text", "'spans' must be a list, got 'x'"),
        (("spans", 0, "span"), "null", "'spans' has no 'span'"),
        (("elbo",), "nested lists", "'elbo' must be an object, got [[[[[["),
    ],
)
def test_an_odd_value_is_named(path, kind, why):
    with pytest.raises(ManifestError) as error:
        Manifest.from_json(odd_manifest(path, ODD[kind]), "7")
    assert f"MANIFEST.json is not one that was pushed ({why}" in str(error.value)


def test_the_spans_are_read():
    manifest = Manifest.from_json(odd_manifest(("unknown",), "1"), "7")
    assert manifest.spans == (7,)
    assert Manifest.from_content({}).spans is None
    assert Manifest.from_content({"spans": []}).spans == ()
