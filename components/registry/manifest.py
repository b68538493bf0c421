"""The manifest of a version, MANIFEST.json: facts about a published model."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import fsspec
import pydantic
from fsspec.implementations.local import LocalFileSystem

from model.config import ModelConfig
from model.errors import PipelineError
from model.files import digests, filesystems, regular_files, safe_paths

MANIFEST = "MANIFEST.json"
SIGNATURE = "model.sig"  # of the version; no file of the model, as MANIFEST.json
_ROLLED_BACK = "rolled_back"
_LONGEST_SHOWN = 100  # characters of a value in a message
_PREVIOUS = "previous"


class ManifestError(PipelineError):
    """A MANIFEST.json is damaged, or a value in it has the wrong type."""


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The version that a candidate was measured against."""

    version: int
    digest: str  # SHA-256 over its files


@dataclasses.dataclass(frozen=True, kw_only=True)
class RolledBack:
    """The facts about a rollback, in the manifest of the version that it published."""

    replaced: int  # the version that was served before; `from` in JSON
    to: int  # the older version that was published again
    by: str  # user@host
    why: str
    at: str  # ISO 8601, UTC

    def to_content(self) -> dict[str, Any]:
        """Returns the facts as a JSON object."""
        content = dataclasses.asdict(self)
        return {"from": content.pop("replaced"), **content}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Manifest:
    """Facts about a model; an attribute is None if the manifest does not have it.

    The constructors are `from_json`, `from_content` and `from_run`.
    """

    content: Mapping[str, Any]  # the JSON object, with unknown keys of other releases
    digest: str  # SHA-256 over all files of the model; "" before the push
    files: Mapping[str, str]  # SHA-256 of each file by path; empty before the push
    elbo: float | None = None  # the gate's mean ELBO, nats per image
    reconstruction: float | None = None  # the ELBO's first term
    kl: float | None = None  # the ELBO's second term
    independent_pixels: float | None = None  # their log-likelihood, nats per image
    standard_error: float | None = None  # of the mean ELBO, nats
    images: int | None = None  # number of images in these means
    samples: int | None = None  # number of draws of z per image
    seed: int | None = None  # seed of these draws and of the binarization
    model: ModelConfig | None = None
    baseline: Baseline | None = None
    data_fingerprint: str | None = None
    spans: tuple[int, ...] | None = None  # numbers; empty: the source has no spans
    run_key: str | None = None  # digest of settings, data, code and stack
    singleprint: str | None = None  # TensorFlow's identity, the same for each export
    rolled_back: RolledBack | None = None
    # The version that was served before this one; None also if the manifest lacks it.
    previous: int | None = None

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "Manifest":
        """Returns the manifest in a JSON object, of this release or of another one.

        Raises:
          ManifestError: a value has another type than in this release.
        """
        elbo = _get(content, "elbo", kind=dict) or {}
        config = _get(content, "config", kind=dict) or {}
        gate = _get(config, "gate", kind=dict) or {}
        baseline = _get(content, "baseline", kind=dict)
        rolled_back = _get(content, _ROLLED_BACK, kind=dict)
        return cls(
            content=dict(content),
            digest=_get(content, "digest", kind=str) or "",
            files=_get(content, "files", kind=dict) or {},
            elbo=_get(elbo, "elbo", kind=float),
            reconstruction=_get(elbo, "reconstruction", kind=float),
            kl=_get(elbo, "kl", kind=float),
            independent_pixels=_get(elbo, "independent_pixels", kind=float),
            standard_error=_get(elbo, "standard_error", kind=float),
            images=_get(elbo, "images", kind=int),
            samples=_get(gate, "samples", kind=int),
            seed=_get(gate, "seed", kind=int),
            model=_parse_model_config(_get(config, "model", kind=dict)),
            baseline=None if baseline is None else _parse_baseline(baseline),
            data_fingerprint=_get(content, "data_fingerprint", kind=str),
            spans=_parse_spans(_get(content, "spans", kind=list)),
            run_key=_get(content, "run_key", kind=str),
            singleprint=_get(content, "singleprint", kind=str),
            rolled_back=None
            if rolled_back is None
            else _parse_rolled_back(rolled_back),
            previous=_get(content, _PREVIOUS, kind=int),
        )

    @classmethod
    def from_json(cls, text: str | bytes, path: str) -> "Manifest":
        """Returns the manifest in the text of a version's MANIFEST.json.

        Args:
          text: the content of MANIFEST.json.
          path: path or URI of the version's folder, for messages.

        Raises:
          ManifestError: the text is no JSON object, the digests of the files are
            missing, the digest over them is wrong, a file's name leads out of the
            folder, or a value has the wrong type.
        """
        try:
            try:
                content = json.loads(text)
            except (ValueError, RecursionError) as error:
                raise ManifestError(f"{type(error).__name__}: {error}") from error
            if not isinstance(content, dict):
                raise ManifestError("it must be a JSON object")
            _check_values(content)
            files = _get(content, "files", kind=dict) or {}
            for name in files:
                safe_paths.check_name(path, name)
            if not files or not all(isinstance(value, str) for value in files.values()):
                raise ManifestError("it has no digests of files")
            if content.get("digest") != combine_digests(files):
                raise ManifestError("its digest is not that of its files")
            return cls.from_content(content)
        except (ManifestError, safe_paths.PathError) as error:
            raise ManifestError(
                f"{MANIFEST} is not one that was pushed ({error})"
            ) from error

    @classmethod
    def from_run(
        cls,
        *,
        elbo: Mapping[str, float | int | str | None],
        baseline: Baseline | None,
        data_fingerprint: str,
        spans: Sequence[Mapping[str, int | str]],
        provenance: Mapping[str, Any],
        stack: Mapping[str, str],
    ) -> "Manifest":
        """Returns the manifest of a model from a run, without digests of its files.

        Args:
          elbo: elbo, reconstruction, kl and independent_pixels, the standard error of
            the elbo, and their unit, split and number of images.
          baseline: the version that the model was compared with; None if nothing was
            served.
          data_fingerprint: fingerprint of the data set or of the spans.
          spans: number and fingerprint of each span; empty if the source has none.
          provenance: the run key, and the settings by section.
          stack: the versions of Python and of the packages that influence a model.
        """
        return cls.from_content(
            {
                "elbo": dict(elbo),
                "baseline": baseline and dataclasses.asdict(baseline),
                "data_fingerprint": data_fingerprint,
                "spans": list(spans),
                **provenance,
                "stack": dict(stack),
            }
        )

    def to_json(self) -> str:
        """Returns the text of MANIFEST.json."""
        return json.dumps(self.content, indent=2) + "\n"

    def with_files(self, file_digests: Mapping[str, str]) -> "Manifest":
        """Returns a copy with the digests of a model's files and the digest over them.

        Args:
          file_digests: SHA-256 of each file by path.
        """
        content = {**self.content, "files": dict(file_digests)}
        content.pop("digest", None)
        return self.from_content({"digest": combine_digests(file_digests), **content})

    def with_singleprint(self, singleprint: str) -> "Manifest":
        """Returns a copy with the singleprint, TensorFlow's identity of the model."""
        return self.from_content({"singleprint": singleprint, **self.content})

    def with_previous(self, previous: int | None) -> "Manifest":
        """Returns a copy with the number of the version that was served before.

        Args:
          previous: the number; None if nothing was served.
        """
        return self.from_content({**self.content, _PREVIOUS: previous})

    def with_rollback(self, rolled_back: RolledBack) -> "Manifest":
        """Returns a copy for the version that a rollback publishes.

        The copy has the facts about the rollback. It has no digests of files and no
        previous version.
        """
        left_out = ("digest", "files", _ROLLED_BACK, _PREVIOUS)
        kept = {key: self.content[key] for key in self.content if key not in left_out}
        return self.from_content({**kept, _ROLLED_BACK: rolled_back.to_content()})


def compute_file_digests(directory: str) -> dict[str, str]:
    """Returns the SHA-256 of each file of a model by path, as `list_file_names`.

    Args:
      directory: a local folder or an object store's URI.

    Raises:
      PathError: a file's name leads out of the folder, or there is a symbolic link, a
        named pipe, a socket or a device.
      StorageError: the object store does not answer.
    """
    found = {}
    with filesystems.open_filesystem(directory) as (files, path):
        for name in list_file_names(files, path):
            with regular_files.open_stored(files, f"{path}/{name}") as file:
                found[name] = digests.digest_stream(file)
    return found


def combine_digests(file_digests: Mapping[str, str]) -> str:
    """Returns one SHA-256 over the paths and digests of all files of a model.

    Args:
      file_digests: SHA-256 of each file by path.
    """
    lines = (f"{digest}  {path}\n" for path, digest in sorted(file_digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def list_file_names(files: fsspec.AbstractFileSystem, path: str) -> list[str]:
    """Returns the sorted paths of a model's files: no MANIFEST.json, no model.sig.

    Args:
      files: the file system of the folder.
      path: the folder's path in this file system; the results are relative to it.

    Raises:
      PathError: a file's name leads out of the folder, or there is a symbolic link, a
        named pipe, a socket or a device.
    """
    if isinstance(files, LocalFileSystem):
        safe_paths.refuse_links(path)
        regular_files.refuse_irregular(path)
    names = [found[len(path) + 1 :] for found in files.find(path)]
    # An object store may have empty objects in place of folders.
    names = sorted(
        name
        for name in names
        if name not in ("", MANIFEST, SIGNATURE) and not name.endswith("/")
    )
    for name in names:
        # The name of an object may be any text, but the copy's path may not.
        safe_paths.check_name(path, name)
    return names


def _check_values(content: Mapping[str, Any]) -> None:
    """Raises ManifestError for a value at any depth that no manifest of a push has.

    Such values cannot be printed, or stored in 64 bits: numbers that are not finite,
    integers of more than 64 bits, and texts with half a character.
    """
    rest: list[tuple[str, Any]] = list(content.items())
    rest += [("a key", key) for key in content]
    while rest:  # not recursive: lists may be nested a thousand times
        key, value = rest.pop()
        if isinstance(value, dict):
            rest += value.items()
            rest += [("a key", each) for each in value]
        elif isinstance(value, list):
            rest += [(key, each) for each in value]
        elif isinstance(value, float) and not math.isfinite(value):
            raise ManifestError(f"{key!r} must be a finite number, got {value}")
        elif isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ManifestError(f"{key!r} must be an integer of at most 64 bits")
        elif isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in value):
            raise ManifestError(f"{key!r} must be a text that UTF-8 can hold")


# The manifests of the first releases lack these settings, which had no other value.
_OLD_MODEL_DEFAULTS = {"posterior": "full", "prior": "standard"}

_TYPE_NAMES = {
    dict: "an object",
    list: "a list",
    str: "a text",
    float: "a number",
    int: "an integer",
}


def _get(content: Mapping[str, Any], key: str, *, kind: type) -> Any:
    """Returns a value of a JSON object; None if the key is missing or null.

    Args:
      content: the JSON object.
      key: the value's key.
      kind: the type that the value must have; float accepts integers, too.

    Raises:
      ManifestError: the value has another type.
    """
    value = content.get(key)
    if value is None:
        return None
    kinds = (int, float) if kind is float else (kind,)
    if isinstance(value, bool) or not isinstance(value, kinds):
        shown = repr(value)
        if len(shown) > _LONGEST_SHOWN:
            shown = f"{shown[:_LONGEST_SHOWN]}..."
        raise ManifestError(f"{key!r} must be {_TYPE_NAMES[kind]}, got {shown}")
    return value


def _require(content: Mapping[str, Any], key: str, *, kind: type, where: str) -> Any:
    """Returns a value of the JSON object `where`; raises ManifestError without it."""
    value = _get(content, key, kind=kind)
    if value is None:
        raise ManifestError(f"{where!r} has no {key!r}")
    return value


def _parse_spans(content: Sequence[Any] | None) -> tuple[int, ...] | None:
    if content is None:
        return None
    for each in content:
        if not isinstance(each, dict):
            raise ManifestError("'spans' must be a list of objects")
        _require(each, "fingerprint", kind=str, where="spans")
    return tuple(_require(each, "span", kind=int, where="spans") for each in content)


def _parse_baseline(content: Mapping[str, Any]) -> Baseline:
    return Baseline(
        version=_require(content, "version", kind=int, where="baseline"),
        digest=_require(content, "digest", kind=str, where="baseline"),
    )


def _parse_rolled_back(content: Mapping[str, Any]) -> RolledBack:
    texts = {
        key: _require(content, key, kind=str, where=_ROLLED_BACK)
        for key in ("by", "why", "at")
    }
    return RolledBack(
        replaced=_require(content, "from", kind=int, where=_ROLLED_BACK),
        to=_require(content, "to", kind=int, where=_ROLLED_BACK),
        **texts,
    )


def _parse_model_config(section: Mapping[str, Any] | None) -> ModelConfig | None:
    """Returns the settings in the section `model` of a manifest.

    The result is None if there is no section or this release does not know a setting.
    """
    try:
        return (
            None
            if section is None
            else ModelConfig(**{**_OLD_MODEL_DEFAULTS, **section})
        )
    except pydantic.ValidationError:
        return None
