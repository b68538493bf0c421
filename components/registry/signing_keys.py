"""The keys with which versions are signed and verified."""

import hashlib
import os
import pathlib

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from securesystemslib.signer import CryptoSigner, SSlibKey

from model.errors import PipelineError
from model.files import safe_paths, secret_values

_CURVES = ("secp256r1", "secp384r1")  # those that OpenSSF Model Signing verifies, too
_EXPECTED = "an ECDSA key on the curve P-256 or P-384, in PEM"
_PAGE = "docs/how-to/sign-versions.md says how to make one"


class SigningKeyError(PipelineError):
    """A key can't be used; the message contains no part of a private key."""

    is_bad_input = True


def load_signer(reference: str) -> CryptoSigner:
    """Returns the signer with the private key that the setting push.sign names.

    As ssh does, this refuses a file of this user that other users can read.

    Args:
      reference: env:NAME or file:PATH.

    Raises:
      SecretError: the variable or the file can't be read.
      SigningKeyError: the content is no such key, is encrypted, or is a file that other
        users can read.
    """
    kind, _, place = reference.partition(":")
    if kind == "file":
        _check_mode(place)
    text = secret_values.read_secret(reference, setting="push.sign")
    problem = ""
    try:
        key = serialization.load_pem_private_key(text.encode(), password=None)
    except TypeError:
        problem = (
            "got an encrypted key: decrypt it with `openssl pkey -in KEY -out NEW`, "
            "and protect NEW by its mode or by a secret of the cluster"
        )
    except (ValueError, UnsupportedAlgorithm):
        problem = f"got something else: {_PAGE}"
    if problem:  # outside `except`, so that no traceback has the library's error
        raise SigningKeyError(
            f"the private key that push.sign names must be {_EXPECTED}, {problem}"
        )
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise _kind_error("the private key that push.sign names", key)
    public = _make_public_key(
        key.public_key(), what="the private key that push.sign names"
    )
    return CryptoSigner(key, public)


def load_public_key(reference: str) -> SSlibKey:
    """Returns the public key that the setting push.verify names.

    Args:
      reference: env:NAME, file:PATH or a path.

    Raises:
      SecretError: the variable or the file can't be read.
      SigningKeyError: the content is no such key.
    """
    if not secret_values.REFERENCE.fullmatch(reference):
        reference = f"file:{reference}"
    text = secret_values.read_secret(reference, setting="push.verify")
    what = "the public key that push.verify names"
    if "PRIVATE KEY" in text:
        raise SigningKeyError(
            f"{what} must be a public key, got a private key: write its public half "
            "with `openssl pkey -in KEY -pubout -out KEY.pub`"
        )
    try:
        key = serialization.load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SigningKeyError(
            f"{what} must be {_EXPECTED}, got something else: {_PAGE}"
        ) from error
    return _make_public_key(key, what=what)


def hash_public_key(key: ec.EllipticCurvePublicKey) -> str:
    """Returns the SHA-256, in hex, of a key's PEM text: its name in signatures."""
    pem = key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(pem).hexdigest()


def _make_public_key(key: object, *, what: str) -> SSlibKey:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise _kind_error(what, key)
    if key.curve.name not in _CURVES:
        raise SigningKeyError(
            f"{what} must be {_EXPECTED}, got the curve {key.curve.name}: {_PAGE}"
        )
    return SSlibKey.from_crypto(key, keyid=hash_public_key(key))


def _kind_error(what: str, key: object) -> SigningKeyError:
    kind = type(key).__name__.removesuffix("PublicKey").removesuffix("PrivateKey")
    return SigningKeyError(f"{what} must be {_EXPECTED}, got {kind}: {_PAGE}")


def _check_mode(place: str) -> None:
    """Raises SigningKeyError for a file of this user that other users can access.

    A file that belongs to another user, such as a mounted secret of a cluster, has the
    mode that its owner chose. `read_secret` reports a file that is missing.
    """
    try:
        found = pathlib.Path(safe_paths.expand_home(place)).stat()
    except (OSError, ValueError, safe_paths.PathError):
        return
    if found.st_uid == os.getuid() and found.st_mode & 0o077:
        raise SigningKeyError(
            f"the private key {place} must be a file that only its owner can access, "
            f"got mode {found.st_mode & 0o777:04o}: chmod 600 it"
        )
