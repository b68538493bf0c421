"""The keys that settings name: which ones are accepted, and what is never shown."""

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from components.registry import signing_keys
from tests.support.signing_keys import write_pair

CANARY = "Q2FuYXJ5NDcxMQ"


@pytest.mark.parametrize("curve", [ec.SECP256R1(), ec.SECP384R1()])
def test_the_keys_of_a_pair_have_the_same_name(tmp_path, curve, monkeypatch):
    pair = write_pair(tmp_path, "key", ec.generate_private_key(curve))
    monkeypatch.setenv("SIGN_KEY", (tmp_path / "key").read_text(encoding="ascii"))
    names = {
        signing_keys.load_signer(pair.sign).public_key.keyid,
        signing_keys.load_signer("env:SIGN_KEY").public_key.keyid,
        signing_keys.load_public_key(pair.verify).keyid,
        signing_keys.load_public_key(f"file:{pair.verify}").keyid,
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        (ed25519.Ed25519PrivateKey.generate(), "Ed25519"),
        (rsa.generate_private_key(65_537, 2048), "RSA"),
        (ec.generate_private_key(ec.SECP256K1()), "the curve secp256k1"),
    ],
)
def test_a_key_of_another_kind_is_refused(tmp_path, key, kind):
    pair = write_pair(tmp_path, "key", key)
    expected = f"must be an ECDSA key on the curve P-256 or P-384, in PEM, got {kind}"
    with pytest.raises(signing_keys.SigningKeyError, match=expected):
        signing_keys.load_signer(pair.sign)
    with pytest.raises(signing_keys.SigningKeyError, match=expected):
        signing_keys.load_public_key(pair.verify)


def test_an_encrypted_key_is_refused_with_the_command_that_decrypts_it(tmp_path):
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(b"word"),
        )
    )
    with pytest.raises(
        signing_keys.SigningKeyError,
        match="got an encrypted key: decrypt it with `openssl pkey -in KEY -out NEW`",
    ):
        signing_keys.load_signer(f"file:{path}")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_private_key_that_others_can_read_is_refused(tmp_path, mode):
    pair = write_pair(tmp_path, "key")
    (tmp_path / "key").chmod(mode)
    with pytest.raises(
        signing_keys.SigningKeyError,
        match=f"that only its owner can access, got mode {mode:04o}: chmod 600 it",
    ):
        signing_keys.load_signer(pair.sign)


def test_what_is_no_key_is_refused_and_not_shown(monkeypatch):
    for text in (
        CANARY,
        f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
    ):
        monkeypatch.setenv("SIGN_KEY", text)
        with pytest.raises(signing_keys.SigningKeyError) as error:
            signing_keys.load_signer("env:SIGN_KEY")
        assert "in PEM, got something else: docs/how-to/sign-ver" in str(error.value)
        assert CANARY not in str(error.value)
        assert error.value.__context__ is None


def test_a_public_key_is_no_private_key_and_no_other_text(tmp_path):
    pair = write_pair(tmp_path, "key")
    with pytest.raises(
        signing_keys.SigningKeyError, match="must be a public key, got a private key"
    ):
        signing_keys.load_public_key(pair.sign)
    path = tmp_path / "text"
    path.write_text("no key", encoding="ascii")
    with pytest.raises(signing_keys.SigningKeyError, match="got something else"):
        signing_keys.load_public_key(str(path))
    with pytest.raises(signing_keys.SigningKeyError, match="got something else"):
        signing_keys.load_signer(f"file:{_private(path)}")


def _private(path):
    path.chmod(0o600)
    return path
