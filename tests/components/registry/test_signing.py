"""Signed versions: published, found, and refused when anything about them differs."""

import base64
import hashlib
import json
import os
import shutil

import pytest
from securesystemslib.dsse import Envelope

from components.registry import listing, rolling_back, signed_version, signing
from components.registry.manifest import Manifest
from components.registry.signing import SigningSettings
from tests.support.places import FILES, write_model
from tests.support.pushes import push_next
from tests.support.signing_keys import write_pair

CONTENT = {
    "previous": None,
    "elbo": {"elbo": -90.5},
    "baseline": None,
    "run_key": "k",
    "data_fingerprint": "f",
    "stack": {"python": "3"},
    "of": "another program",
}


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("keys"), "key")


@pytest.fixture
def push(tmp_path, pair):
    """Returns a function that publishes a model, signed unless settings say else."""

    def push(destination, settings=pair, files=FILES, **content):
        model = write_model(tmp_path / "model", files)
        version = push_next(
            model,
            destination=destination,
            manifest=Manifest.from_content({**CONTENT, **content}),
            signer=settings.load_signer(destination),
        )
        shutil.rmtree(model)
        return version

    return push


@pytest.fixture
def folder(tmp_path):
    return str(tmp_path / "serving" / "vae")


def find_damage(destination, settings):
    """Returns why the newest version is damaged; None if it is intact."""
    newest = next(
        listing.list_versions(destination, verifier=settings.load_verifier(destination))
    )
    return getattr(newest, "why", None)


def test_a_signed_version_is_served_from_each_kind_of_destination(push, place, pair):
    version = push(place.uri)
    verifier = pair.load_verifier(place.uri)
    assert listing.find_served_version(place.uri, verifier=verifier) == version
    # Without the key, nobody looks at the signature.
    assert listing.find_served_version(place.uri) == version
    assert f"{version.number}/model.sig" in place.read()


def test_the_signature_is_a_bundle_with_a_statement(push, folder):
    version = push(folder)
    with open(f"{version.path}/model.sig", encoding="ascii") as file:
        bundle = json.load(file)
    assert bundle["mediaType"] == "application/vnd.dev.sigstore.bundle.v0.3+json"
    envelope = bundle["dsseEnvelope"]
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://model_signing/signature/v1.0"
    resources = statement["predicate"]["resources"]
    with open(f"{version.path}/MANIFEST.json", "rb") as file:
        files = {**FILES, "MANIFEST.json": file.read()}
    digests = {name: hashlib.sha256(files[name]) for name in sorted(files)}
    assert resources == [
        {"name": name, "algorithm": "sha256", "digest": each.hexdigest()}
        for name, each in digests.items()
    ]
    root = hashlib.sha256(b"".join(each.digest() for each in digests.values()))
    assert statement["subject"] == [
        {"name": str(version.number), "digest": {"sha256": root.hexdigest()}}
    ]
    assert statement["predicate"]["vae_pipeline"] == {
        "number": version.number,
        "previous": None,
        "destination": f"file://{os.path.realpath(folder)}",
    }


def test_openssf_model_signing_verifies_it(push, folder, pair):
    model_signing = pytest.importorskip(
        "model_signing", reason="needs a protobuf that TFX 1.16 does not allow"
    )
    version = push(folder)
    config = model_signing.verifying.Config().use_elliptic_key_verifier(
        public_key=pair.verify
    )
    config.verify(version.path, f"{version.path}/model.sig")
    with open(f"{version.path}/saved_model.pb", "ab") as file:
        file.write(b"x")
    with pytest.raises(ValueError, match=r"saved_model\.pb"):
        config.verify(version.path, f"{version.path}/model.sig")


def test_a_changed_file_is_damage(push, folder, pair):
    version = push(folder)
    with open(f"{version.path}/saved_model.pb", "ab") as file:
        file.write(b"x")
    assert find_damage(folder, pair).startswith("saved_model.pb has SHA-256")


@pytest.mark.parametrize("key", [*CONTENT, "files", "new"])
def test_each_key_of_the_manifest_is_signed(push, folder, pair, key):
    version = push(folder)
    path = f"{version.path}/MANIFEST.json"
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    if key == "files":  # a whole forged version, which is intact without the key
        with open(f"{version.path}/saved_model.pb", "ab") as file:
            file.write(b"x")
        digests = listing.compute_file_digests(version.path)
        content = {**Manifest.from_content(content).with_files(digests).content}
    else:
        content[key] = {
            "previous": 5,
            "elbo": {"elbo": 0.0},
            "baseline": {"version": 1, "digest": "d"},
            "stack": {},
        }.get(key, "other")
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
    assert find_damage(folder, SigningSettings()) is None
    expected = {
        "previous": "signed as the successor of None, its manifest names 5",
    }.get(key, "MANIFEST.json is not the file that was signed")
    assert expected in find_damage(folder, pair)


def test_a_replay_under_a_new_number_is_damage(push, folder, pair):
    old, new = push(folder), push(folder, of="b")
    replayed = new.number + 1
    shutil.copytree(old.path, f"{folder}/{replayed}")
    verifier = pair.load_verifier(folder)
    served, damaged = listing.find_served_and_damaged(folder, verifier=verifier)
    assert served == new
    assert [each.why for each in damaged] == [
        f"it was signed as version {old.number}, not {replayed}"
    ]


def test_a_replay_at_another_destination_is_damage(push, folder, pair, tmp_path):
    version = push(folder)
    other = str(tmp_path / "production" / "vae")
    shutil.copytree(folder, other)
    assert find_damage(other, pair) == (
        f"it was signed for 'file://{os.path.realpath(folder)}', expected "
        f"'file://{os.path.realpath(other)}': if both are the same folder, set "
        f"push.signed_destination to 'file://{os.path.realpath(folder)}' here"
    )
    there = SigningSettings(
        verify=pair.verify, signed_destination=f"file://{os.path.realpath(folder)}"
    )
    verifier = there.load_verifier(other)
    found = listing.find_served_version(other, verifier=verifier)
    assert found.number == version.number


def test_a_destination_has_a_name_of_its_own_on_all_machines(push, folder, pair):
    settings = SigningSettings(
        sign=pair.sign, verify=pair.verify, signed_destination="models of the bank"
    )
    push(folder, settings)
    assert find_damage(folder, settings) is None
    assert "it was signed for 'models of the bank', expected" in find_damage(
        folder, pair
    )


@pytest.mark.parametrize(
    ("uri", "name"),
    [
        ("s3://bucket/serving/vae/", "s3://bucket/serving/vae"),
        ("minio://bucket/serving/vae", "s3://bucket/serving/vae"),
        ("gs://bucket/vae", "gs://bucket/vae"),
        ("file:///absent/a/../vae/", "file:///absent/vae"),
    ],
)
def test_the_name_of_a_destination_is_normalized(uri, name):
    assert signed_version.name_destination(uri) == name


def test_a_link_to_the_folder_is_the_same_destination(push, folder, pair, tmp_path):
    push(folder)
    os.symlink(folder, tmp_path / "link")
    assert find_damage(str(tmp_path / "link"), pair) is None


def test_another_key_and_no_signature_are_damage(push, folder, pair, tmp_path):
    push(folder, write_pair(tmp_path, "other"))
    assert "model.sig is not signed by the key that push.ver" in find_damage(
        folder, pair
    )
    push(folder, SigningSettings())
    assert find_damage(folder, pair) == (
        "it has no model.sig that is a regular file, and push.verify accepts only "
        "signed versions"
    )
    assert find_damage(folder, SigningSettings()) is None


def _two(bundle):
    bundle["dsseEnvelope"]["signatures"] *= 2


def _none(bundle):
    bundle["dsseEnvelope"]["signatures"] = []


def _payload_type(bundle):
    bundle["dsseEnvelope"]["payloadType"] = "text/plain"


def _media_type(bundle):
    bundle["mediaType"] = "application/x"


def _bad_base64(bundle):
    bundle["dsseEnvelope"]["payload"] += "*"


def _bad_signature(bundle):
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_two, "is no signature of a model (dsseEnvelope.signatures: List should have"),
        (_none, "is no signature of a model (dsseEnvelope.signatures: List should hav"),
        (_payload_type, "(dsseEnvelope.payloadType: Input should be 'application/vnd."),
        (_media_type, "(mediaType: Input should be 'application/vnd.dev.sigstore"),
        (_bad_base64, "is no signature of a model (its base64 is damaged)"),
        (_bad_signature, "is not signed by the key that push.verify names ("),
    ],
)
def test_a_changed_envelope_is_damage(push, folder, pair, change, message):
    version = push(folder)
    path = f"{version.path}/model.sig"
    with open(path, encoding="ascii") as file:
        bundle = json.load(file)
    change(bundle)
    with open(path, "w", encoding="ascii") as file:
        json.dump(bundle, file)
    assert message in find_damage(folder, pair)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no signature of a model (the text: Invalid JSON"),
        (b"\xff\x00", "is no signature of a model (the text: Invalid JSON"),
        (b"[" * 100_000, "is no signature of a model (the text: Invalid JSON"),
        (b"[]", "is no signature of a model (the text: Input should be an object"),
        (b"{}", "is no signature of a model (mediaType: Field required"),
        (b" " * 4_000_001, "must have at most 4,000,000 bytes, got more"),
    ],
)
def test_garbage_is_damage(push, folder, pair, content, message):
    version = push(folder)
    with open(f"{version.path}/model.sig", "wb") as file:
        file.write(content)
    assert message in find_damage(folder, pair)


def test_a_pipe_a_folder_and_a_link_are_no_signature(push, folder, pair):
    version = push(folder)
    path = f"{version.path}/model.sig"
    os.rename(path, f"{folder}/kept")
    for make in (os.mkfifo, os.mkdir, lambda path: os.symlink(f"{folder}/kept", path)):
        make(path)
        with pytest.raises(
            signed_version.InvalidSignatureError,
            match="has no model.sig that is a regular",
        ):
            signed_version.read_signature(version.path)
        os.rmdir(path) if os.path.isdir(path) else os.remove(path)


def test_the_key_of_another_signed_text_does_not_make_it_a_version(push, folder, pair):
    version = push(folder)
    path = f"{version.path}/model.sig"
    with open(path, encoding="ascii") as file:
        bundle = json.load(file)
    envelope = Envelope(b'{"a": 1}', "application/vnd.in-toto+json", {})
    envelope.sign(pair.load_signer(folder).key)
    bundle["dsseEnvelope"] = envelope.to_dict()
    with open(path, "w", encoding="ascii") as file:
        json.dump(bundle, file)
    assert (
        "has the signature of something that is no version of this project (_typ"
        in (find_damage(folder, pair))
    )


def test_a_rollback_signs_and_needs_the_key(push, folder, pair):
    old, _ = push(folder), push(folder, files={**FILES, "saved_model.pb": b"new"})
    with pytest.raises(signing.NoSigningKeyError, match="push.sign must name the priv"):
        rolling_back.roll_back(
            folder, None, why="w", signing=SigningSettings(verify=pair.verify)
        )
    assert len(os.listdir(folder)) == 3  # two versions and the lock
    version = rolling_back.roll_back(folder, None, why="w", signing=pair)
    assert version.digest == old.digest
    assert find_damage(folder, pair) is None


def test_a_rollback_refuses_a_version_without_a_signature(push, folder, pair):
    old = push(folder, SigningSettings())
    push(folder, files={**FILES, "saved_model.pb": b"new"})
    with pytest.raises(
        rolling_back.RollbackError,
        match=f"version {old.number} is damaged: it has no model.sig",
    ):
        rolling_back.roll_back(folder, old.number, why="w", signing=pair)


def test_the_private_key_must_be_that_of_the_public_key(folder, pair, tmp_path):
    other = write_pair(tmp_path, "other")
    settings = SigningSettings(sign=other.sign, verify=pair.verify)
    with pytest.raises(
        signing.NoSigningKeyError,
        match=r"push.sign must name the private key of the public key that push.verify "
        r"names \(\w{12}...\), got that of \w{12}...",
    ):
        settings.load_signer(folder)


def test_settings_go_through_a_parameter_without_the_key(pair):
    text = pair.to_json()
    assert SigningSettings.from_json(text) == pair
    assert "PRIVATE" not in text
    assert SigningSettings.from_json("{}") == SigningSettings()


def test_the_signer_does_not_show_its_key(folder, pair):
    assert repr(pair.load_signer(folder)) == (
        f"Signer(destination='file://{os.path.realpath(folder)}')"
    )
