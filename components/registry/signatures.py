"""Signing and verification of versions, in the form of OpenSSF Model Signing.

model.sig is a Sigstore bundle with a DSSE envelope, whose payload is an in-toto
statement. It lists the digests of all files of the version. `model_signing verify key`
checks these. This project's own facts are beside the list, in `vae_pipeline`.

Source: https://github.com/sigstore/model-transparency
"""

import base64
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal

import pydantic
from securesystemslib import exceptions
from securesystemslib.dsse import Envelope
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey

from components.registry.manifest import MANIFEST, SIGNATURE
from components.registry.signed_version import InvalidSignatureError, SignedVersion
from components.registry.signing_keys import load_public_key, load_signer

__all__ = ["Signer", "Verifier", "load_public_key", "load_signer"]

_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE = "https://model_signing/signature/v1.0"
_BUNDLE_TYPE = "application/vnd.dev.sigstore.bundle.v0.3+json"


@dataclasses.dataclass(frozen=True)
class Signer:
    """Signs versions of one destination with a private key."""

    key: CryptoSigner = dataclasses.field(repr=False)
    destination: str  # as signatures state it

    def sign(
        self,
        *,
        number: int,
        previous: int | None,
        manifest: str,
        files: Mapping[str, str],
    ) -> bytes:
        """Returns the content of a version's model.sig.

        Args:
          number: the version's number.
          previous: the version that was served before; None: nothing was.
          manifest: the text of MANIFEST.json.
          files: SHA-256 of each file by path, without MANIFEST.json.
        """
        digest = hashlib.sha256(manifest.encode()).hexdigest()
        signed = SignedVersion(
            number=number,
            previous=previous,
            destination=self.destination,
            files={**files, MANIFEST: digest},
        )
        payload = json.dumps(_to_statement(signed)).encode()
        envelope = Envelope(payload, _PAYLOAD_TYPE, {})
        envelope.sign(self.key)
        bundle = {
            "mediaType": _BUNDLE_TYPE,
            "verificationMaterial": {
                "publicKey": {"hint": self.key.public_key.keyid},
                "tlogEntries": [],
            },
            "dsseEnvelope": envelope.to_dict(),
        }
        return (json.dumps(bundle) + "\n").encode()


@dataclasses.dataclass(frozen=True)
class Verifier:
    """Verifies that versions are signed with a key, for a number and a destination."""

    key: SSlibKey
    destination: str  # as signatures must state it

    def verify(self, bundle: bytes, expected: SignedVersion) -> None:
        """Raises InvalidSignatureError unless model.sig states the expected facts.

        Args:
          bundle: the content of model.sig.
          expected: the facts, as they were read from the destination.

        Raises:
          InvalidSignatureError: the signature is not one of this key, or states other
            facts. The message says which.
        """
        signed = _read_statement(self._open(bundle))
        if signed.number != expected.number:
            raise InvalidSignatureError(
                f"it was signed as version {signed.number}, not {expected.number}"
            )
        if signed.destination != expected.destination:
            raise InvalidSignatureError(
                f"it was signed for {signed.destination!r}, expected "
                f"{expected.destination!r}: if both are the same folder, set "
                f"push.signed_destination to {signed.destination!r} here"
            )
        if signed.previous != expected.previous:
            raise InvalidSignatureError(
                f"it was signed as the successor of {signed.previous}, its manifest "
                f"names {expected.previous}"
            )
        names = sorted({*signed.files, *expected.files})
        wrong = [n for n in names if signed.files.get(n) != expected.files.get(n)]
        if wrong:
            raise InvalidSignatureError(
                f"{wrong[0]} is not the file that was signed"
                + (f", nor are {len(wrong) - 1} more" if wrong[1:] else "")
            )

    def _open(self, bundle: bytes) -> bytes:
        """Returns the payload of a bundle, after a check of its only signature."""
        try:
            envelope = _Bundle.model_validate_json(bundle).dsseEnvelope
            payload = base64.b64decode(envelope.payload, validate=True)
            signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the text"
            raise InvalidSignatureError(
                f"{SIGNATURE} is no signature of a model ({where}: {first['msg']})"
            ) from error
        except ValueError as error:
            raise InvalidSignatureError(
                f"{SIGNATURE} is no signature of a model (its base64 is damaged)"
            ) from error
        # The signature's `keyid` is only a hint, which nothing protects.
        found = Signature(self.key.keyid, signature.hex())
        try:
            Envelope(payload, envelope.payloadType, {self.key.keyid: found}).verify(
                [self.key], 1
            )
        except exceptions.VerificationError as error:
            raise InvalidSignatureError(
                f"{SIGNATURE} is not signed by the key that push.verify names "
                f"({self.key.keyid:.12}...)"
            ) from error
        return payload


class _EnvelopeSignature(pydantic.BaseModel):
    sig: str


class _Envelope(pydantic.BaseModel):
    payload: str
    payloadType: Literal["application/vnd.in-toto+json"]  # noqa: N815, a key in JSON
    signatures: list[_EnvelopeSignature] = pydantic.Field(min_length=1, max_length=1)


class _Bundle(pydantic.BaseModel):
    mediaType: Literal["application/vnd.dev.sigstore.bundle.v0.3+json"]  # noqa: N815
    dsseEnvelope: _Envelope  # noqa: N815


class _Resource(pydantic.BaseModel):
    name: str
    algorithm: Literal["sha256"]
    digest: str


class _Facts(pydantic.BaseModel):
    number: int
    previous: int | None
    destination: str


class _Predicate(pydantic.BaseModel):
    resources: list[_Resource]
    vae_pipeline: _Facts


class _Statement(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(populate_by_name=True)

    type: Literal["https://in-toto.io/Statement/v1"] = pydantic.Field(alias="_type")
    predicateType: Literal["https://model_signing/signature/v1.0"]  # noqa: N815
    predicate: _Predicate


def _to_statement(signed: SignedVersion) -> dict[str, Any]:
    """Returns the in-toto statement about a version, as a JSON object."""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": signed.files[name]}
        for name in sorted(signed.files)
    ]
    # As OpenSSF Model Signing defines it: the digest over the resources' digests.
    digests = b"".join(bytes.fromhex(each["digest"]) for each in resources)
    subject = {
        "name": str(signed.number),
        "digest": {"sha256": hashlib.sha256(digests).hexdigest()},
    }
    return {
        "_type": _STATEMENT_TYPE,
        "subject": [subject],
        "predicateType": _PREDICATE_TYPE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [SIGNATURE],
            },
            "resources": resources,
            "vae_pipeline": {
                "number": signed.number,
                "previous": signed.previous,
                "destination": signed.destination,
            },
        },
    }


def _read_statement(payload: bytes) -> SignedVersion:
    """Returns what a signed payload states about a version."""
    try:
        predicate = _Statement.model_validate_json(payload, strict=True).predicate
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the text"
        raise InvalidSignatureError(
            f"{SIGNATURE} has the signature of something that is no version of this "
            f"project ({where}: {first['msg']})"
        ) from error
    return SignedVersion(
        **dict(predicate.vae_pipeline),
        files={each.name: each.digest for each in predicate.resources},
    )
