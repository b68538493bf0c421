"""Pairs of keys, made by the library `cryptography`, and settings that name them."""

import os
import pathlib

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from components.registry.signing import SigningSettings


def write_pair(folder: pathlib.Path, name: str, key=None) -> SigningSettings:
    """Writes NAME and NAME.pub, a new pair of keys; returns settings with both.

    Args:
      folder: where the files are written; it is made if it is missing.
      name: the name of the private key's file.
      key: the private key; None: a new one on the curve P-256.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    folder.mkdir(parents=True, exist_ok=True)
    private, public = folder / name, folder / f"{name}.pub"
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    private.touch(mode=0o600)
    private.write_bytes(text)
    os.chmod(private, 0o600)
    public.write_bytes(
        key.public_key().public_bytes(
            serialization.Encoding.PEM,
            serialization.PublicFormat.SubjectPublicKeyInfo,
        )
    )
    return SigningSettings(sign=f"file:{private}", verify=str(public))


def to_flags(settings: SigningSettings, *names: str) -> list[str]:
    """Returns --set options of the settings, or of those that are named."""
    return [
        word
        for name in names or ("sign", "verify")
        for word in ("--set", f"push.{name}={getattr(settings, name)}")
    ]
