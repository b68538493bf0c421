"""The settings of signatures, and the signer and the verifier that they give."""

import dataclasses
import json
import warnings
from types import ModuleType
from typing import TYPE_CHECKING

from components.registry.signed_version import name_destination
from model.errors import PipelineError

if TYPE_CHECKING:
    from components.registry.signatures import Signer, Verifier


class NoSigningKeyError(PipelineError):
    """push.verify is set, and there is no private key of this public key."""

    is_bad_input = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class SigningSettings:
    """The settings of section push that are about signatures; no key is in them."""

    sign: str = ""  # env:NAME or file:PATH of the private key; empty: none
    verify: str = ""  # env:NAME, file:PATH or the path of the public key; empty: none
    signed_destination: str = ""  # empty: the destination's own name

    @classmethod
    def from_json(cls, text: str) -> "SigningSettings":
        """Returns the settings in the JSON text of a step's parameter."""
        return cls(**json.loads(text))

    def to_json(self) -> str:
        """Returns the JSON text for a step's parameter."""
        return json.dumps(dataclasses.asdict(self))

    def load_verifier(self, destination: str) -> "Verifier | None":
        """Returns the verifier of a destination's versions; None without push.verify.

        Args:
          destination: folder or URI of the versions.

        Raises:
          SecretError: the key can't be read.
          SigningKeyError: it is no key of the right kind.
        """
        if not self.verify:
            return None
        signatures = _import_signatures()
        name = self.signed_destination or name_destination(destination)
        return signatures.Verifier(signatures.load_public_key(self.verify), name)

    def load_signer(self, destination: str) -> "Signer | None":
        """Returns the signer of a destination's versions; None without push.sign.

        Args:
          destination: folder or URI of the versions.

        Raises:
          SecretError: a key can't be read.
          SigningKeyError: it is no key of the right kind.
          NoSigningKeyError: push.verify is set, and push.sign is not or names the key
            of another pair. What this process published, nobody would serve.
        """
        if self.verify and not self.sign:
            raise NoSigningKeyError(
                "push.sign must name the private key (env:NAME or file:PATH) because "
                "push.verify is set: a version without a signature is never served"
            )
        if not self.sign:
            return None
        signatures = _import_signatures()
        signer = signatures.load_signer(self.sign)
        if self.verify:
            expected = signatures.load_public_key(self.verify)
            if signer.public_key.keyid != expected.keyid:
                raise NoSigningKeyError(
                    "push.sign must name the private key of the public key that "
                    f"push.verify names ({expected.keyid:.12}...), got that of "
                    f"{signer.public_key.keyid:.12}..."
                )
        name = self.signed_destination or name_destination(destination)
        return signatures.Signer(signer, name)


def _import_signatures() -> ModuleType:
    """Returns the module `signatures`, whose library takes 0.8 s and prints warnings.

    So commands that use no key do not import it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # Google's libraries give them
        from components.registry import signatures
    return signatures
