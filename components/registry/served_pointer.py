"""SERVED.json, the object of an object store that names the served version.

An object store has no rename and no lock. So one conditional write of this object
publishes a version: the store refuses it if another push has written the object since
it was read. Readers ignore a version whose number this object does not have.
"""

import dataclasses
import hashlib
import json
from typing import cast

import fsspec
import pydantic

from model.errors import PipelineError

SERVED = "SERVED.json"

_S3_CONFLICT = 409  # S3's answer if two conditional writes meet; it wants a new try
_TRIES = 5  # of a conditional write that the store answers by 409
_OTHER_ETAG = '"00000000000000000000000000000000"'  # an ETag that no object has
_OTHER_GENERATION = "1"  # generations of Google Cloud Storage are microseconds


class ServedPointerError(PipelineError):
    """SERVED.json is damaged."""


class UnconditionalStoreError(PipelineError):
    """An object store ignores the conditions of conditional writes."""

    is_bad_input = True


@pydantic.dataclasses.dataclass(
    frozen=True, kw_only=True, config=pydantic.ConfigDict(extra="ignore", strict=True)
)
class ServedPointer:
    """The content of SERVED.json.

    `version` and `manifest` are None if nothing was published yet.
    """

    version: int | None  # the number of the served version
    manifest: str | None  # SHA-256 of the bytes of its MANIFEST.json
    published: tuple[int, ...]  # all numbers that were ever published, ascending

    def __post_init__(self):
        if list(self.published) != sorted(set(self.published)):
            raise ValueError("published must be in ascending order")
        if self.version != (self.published[-1] if self.published else None):
            raise ValueError("version must be the last number of published")
        if (self.version is None) != (self.manifest is None):
            raise ValueError("version and manifest must be both null or both set")

    @classmethod
    def from_json(cls, text: bytes, path: str) -> "ServedPointer":
        """Returns the content of SERVED.json.

        Args:
          text: the object's bytes.
          path: the object's path, for the message.

        Raises:
          ServedPointerError: a push did not write this text.
        """
        try:
            return pydantic.TypeAdapter(cls).validate_json(text)
        except pydantic.ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"]))
            why = f"{where}: {first['msg']}" if where else first["msg"]
            raise ServedPointerError(
                f"{path} must be the JSON that a push wrote ({why}): restore it; or "
                "remove it, then the newest intact version is served, whether or not "
                "its push was completed"
            ) from error

    def to_json(self) -> str:
        """Returns the text of SERVED.json."""
        return json.dumps(dataclasses.asdict(self)) + "\n"

    def with_version(self, number: int, manifest: bytes) -> "ServedPointer":
        """Returns a copy that names a newly published version as the served one.

        Args:
          number: the version's number, higher than all published ones.
          manifest: the bytes of its MANIFEST.json.
        """
        return ServedPointer(
            version=number,
            manifest=digest_manifest(manifest),
            published=(*self.published, number),
        )


NOTHING = ServedPointer(version=None, manifest=None, published=())


@dataclasses.dataclass(frozen=True)
class ReadPointer:
    """SERVED.json as it was read, with the condition to replace just this content."""

    pointer: ServedPointer | None  # None: there is no SERVED.json
    state: str | None  # the object's ETag or generation; None: there is no SERVED.json


def digest_manifest(manifest: bytes) -> str:
    """Returns the SHA-256 of the bytes of a MANIFEST.json."""
    return hashlib.sha256(manifest).hexdigest()


def read_pointer(files: fsspec.AbstractFileSystem, path: str) -> ReadPointer:
    """Returns SERVED.json of an object store, and the condition to replace it.

    Args:
      files: the file system of the object store.
      path: the path of the versions' folder in this file system.

    Raises:
      ServedPointerError: SERVED.json is damaged.
    """
    name = f"{path}/{SERVED}"
    try:
        # The condition comes first. If another push writes the object before its
        # content is read, the condition is too old, and the store refuses the write.
        state = _read_state(files, name)
        text = files.cat_file(name)
    except FileNotFoundError:
        return ReadPointer(None, None)
    return ReadPointer(ServedPointer.from_json(text, name), state)


def replace_pointer(
    files: fsspec.AbstractFileSystem,
    path: str,
    *,
    before: ReadPointer,
    pointer: ServedPointer,
    is_conditional: bool,
) -> bool:
    """Writes SERVED.json, unless another push has written it before.

    Args:
      files: the file system of the object store.
      path: the path of the versions' folder in this file system.
      before: SERVED.json as it must still be.
      pointer: the new content.
      is_conditional: whether the store refuses a write whose condition is not met; if
        False, the object is replaced in any case.

    Returns:
      Whether the new content was written.

    Raises:
      Exception: the write failed for another reason; the kind depends on the store.
    """
    name, text = f"{path}/{SERVED}", pointer.to_json().encode()
    if not is_conditional:
        files.pipe_file(name, text)
        return True
    for attempt in range(1, _TRIES + 1):
        try:
            _write_if(files, name, data=text, state=before.state)
            return True
        except Exception as error:  # each library has its own classes of errors
            # The answer to an earlier try of the library may have been lost, so the
            # object tells whether this write was made.
            now = read_pointer(files, path)
            if now.pointer == pointer:
                return True
            if now.state != before.state:
                return False
            if _find_http_status(error) != _S3_CONFLICT or attempt == _TRIES:
                raise
    raise AssertionError("unreachable")


def refuses_unmet_conditions(files: fsspec.AbstractFileSystem, claim: str) -> bool:
    """Returns whether a store refuses the writes whose condition is not met.

    Both conditions of `replace_pointer` are tried on an object of this push, with its
    own content, so that nothing changes if the store ignores them.

    Args:
      files: the file system of the object store.
      claim: the path of this push's claim of a number, an empty object that exists.
    """
    other = _OTHER_GENERATION if _is_google(files) else _OTHER_ETAG
    for state in (None, other):
        try:
            _write_if(files, claim, data=b"", state=state)
        except Exception as error:  # each library has its own classes of errors
            if not _is_refusal(error):
                raise
        else:
            return False
    return True


def _read_state(files: fsspec.AbstractFileSystem, name: str) -> str:
    """Returns the ETag or the generation of an object.

    Raises:
      FileNotFoundError: there is no such object.
    """
    info = files.info(name, refresh=True) if not _is_google(files) else files.info(name)
    if info["type"] != "file":
        raise FileNotFoundError(name)
    return str(info["generation"] if _is_google(files) else info["ETag"])


def _write_if(
    files: fsspec.AbstractFileSystem, name: str, *, data: bytes, state: str | None
) -> None:
    """Writes an object on the condition that it has this state; None: that it is new.

    Raises:
      Exception: the condition is not met, or another fault.
    """
    if state is None:
        files.pipe_file(name, data, mode="create")
    elif _is_google(files):
        # gcsfs has no argument for the condition on a generation.
        bucket, key, _ = files.split_path(name)
        base = files.base.replace("/storage/v1/", "/upload/storage/v1/")
        files.call(
            "POST",
            f"{base}b/{bucket}/o",
            uploadType="media",
            name=key,
            ifGenerationMatch=state,
            headers={"Content-Type": "application/octet-stream"},
            data=data,
        )
    else:
        files.pipe_file(name, data, IfMatch=state)


def _is_google(files: fsspec.AbstractFileSystem) -> bool:
    protocol = files.protocol
    return "gs" in ((protocol,) if isinstance(protocol, str) else protocol)


def _is_refusal(error: Exception) -> bool:
    """Returns whether a store refused a write because its condition is not met."""
    return isinstance(error, FileExistsError) or _find_http_status(error) in (412, 409)


def _find_http_status(error: Exception) -> int | None:
    """Returns the HTTP status in an error of s3fs or gcsfs; None if there is none."""
    response = getattr(error.__cause__, "response", None)  # botocore's ClientError
    if isinstance(response, dict):
        metadata = response.get("ResponseMetadata", {})
        return cast("int | None", metadata.get("HTTPStatusCode"))
    code = getattr(error, "code", None)  # gcsfs's HttpError
    return code if isinstance(code, int) else None
