"""The served version of a model, which follows the pushes to its destination."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from components.registry import listing, version_numbers
from pipeline.serving import protocol
from pipeline.serving.batching import Limits
from pipeline.serving.model import Model
from pipeline.serving.protocol import RequestError, Target

if TYPE_CHECKING:
    from components.registry.signatures import Verifier

_log = logging.getLogger(__name__)


class Models:
    """The served version of one model, and the states of its earlier versions.

    The newest intact version is loaded in a thread while the old one is still served.
    Then new requests use the new version; requests that have begun finish with the old
    one. If a version cannot be loaded, this logs an error and keeps the served version.
    """

    def __init__(
        self,
        name: str,
        destination: str,
        *,
        limits: Limits,
        threads: int,
        verifier: "Verifier | None" = None,
    ):
        """Initializes it without a model; `refresh` loads one.

        Args:
          name: the model's name in the paths of requests.
          destination: the folder or URI of the versions.
          limits: the limits of batches.
          threads: the number of threads that call the model.
          verifier: versions without a valid signature are not served; None: serves
            them.
        """
        self.name = name
        self._destination = destination
        self._find_served = functools.partial(
            listing.find_served_and_damaged, destination, verifier=verifier
        )
        self._limits = limits
        # Loading has its own thread, so that it does not wait for requests.
        self._loader = concurrent.futures.ThreadPoolExecutor(1, "load")
        self.executor = concurrent.futures.ThreadPoolExecutor(threads, "predict")
        self._current: Model | None = None
        self._states: dict[int, dict[str, Any]] = {}
        self._logged: set[str] = set()  # messages since a version was loaded
        # The newest manifest when all versions were last read.
        self._newest_manifest: Any = None

    @property
    def is_ready(self) -> bool:
        """Returns whether a model is loaded."""
        return self._current is not None

    async def watch(self, seconds: float) -> None:
        """Calls `refresh` and sleeps, until the task is cancelled.

        Args:
          seconds: the time between two calls.
        """
        while True:
            await self.refresh()
            await asyncio.sleep(seconds)

    async def refresh(self) -> None:
        """Loads and serves the newest intact version, if it is not served already.

        Faults are logged, not raised.
        """
        loop = asyncio.get_running_loop()
        version = None
        try:
            newest_manifest = await loop.run_in_executor(
                self._loader, listing.read_newest_manifest, self._destination
            )
            if self.is_ready and newest_manifest == self._newest_manifest:
                self._logged.clear()
                return
            version, damaged = await loop.run_in_executor(
                self._loader, self._find_served
            )
            ignored = await loop.run_in_executor(
                self._loader, version_numbers.describe_ignored_names, self._destination
            )
            for message in ignored:
                self._log_once(message, logging.WARNING)
            for other in damaged:
                self._log_once(
                    f"version {other.number} of {self._destination} is not served: "
                    f"{other.why}",
                    # Without a manifest, it is foreign or its push is in progress.
                    logging.WARNING if other.has_manifest else logging.INFO,
                )
            if version is None:
                self._log_once(f"no version at {self._destination}: waiting for a push")
                return
            if self._is_current(version):
                self._newest_manifest = newest_manifest
                return
            self._set_state(version.number, "LOADING")
            load = functools.partial(Model, version, self.executor, limits=self._limits)
            model = await loop.run_in_executor(self._loader, load)
            await loop.run_in_executor(self._loader, _freeze_objects)
        except Exception as error:  # the served version must stay, whatever fails
            if version is not None:
                self._set_state(
                    version.number, "END", code="DATA_LOSS", text=str(error)
                )
            what = "the newest version" if version is None else version.path
            self._log_once(f"can't serve {what}: {error}", logging.ERROR)
            return
        old, self._current = self._current, model
        self._newest_manifest = newest_manifest
        self._logged.clear()
        self._set_state(model.number, "AVAILABLE")
        _log.info("serving version %d of %s", model.number, self._destination)
        if old is not None:
            self._set_state(old.number, "UNLOADING")
            self._unload_if_unused(old)

    @contextlib.contextmanager
    def use_model(self, target: Target) -> Iterator[Model]:
        """Yields the model that a request names, and keeps it loaded during the block.

        Raises:
          RequestError: the model or the version is not served.
        """
        model = self._find(target)
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            if model is not self._current:
                self._unload_if_unused(model)

    def describe_metadata(self, target: Target) -> dict[str, Any]:
        """Returns the JSON content of the answer to a request for metadata."""
        model = self._find(target)
        spec = {
            "name": self.name,
            "signature_name": "",
            "version": str(model.number),
        }
        signatures = {"signature_def": model.signature_def}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def describe_status(self, target: Target) -> dict[str, Any]:
        """Returns the JSON content of the answer to a request for the status.

        It has the state of each version, newest first.
        """
        if target.label is not None:
            self._find(target)
        states = self._states if target.model == self.name else {}
        if target.version is not None:
            states = {n: s for n, s in states.items() if n == target.version}
        if not states:
            which = "any versions" if target.version is None else "version"
            number = "" if target.version is None else f" {target.version}"
            raise RequestError(
                404, f"Could not find {which}{number} of model {target.model}"
            )
        return {"model_version_status": [states[n] for n in sorted(states)[::-1]]}

    def close(self) -> None:
        """Ends the threads after their current work, without waiting for that."""
        self._loader.shutdown(wait=False)
        self.executor.shutdown(wait=False)

    def _find(self, target: Target) -> Model:
        if target.label is not None:
            raise RequestError(
                400, f"Unrecognized servable version label: {target.label}"
            )
        model = self._current
        if model is None or target.model != self.name:
            raise protocol.create_not_found_error(target)
        if target.version not in (None, model.number):
            raise protocol.create_not_found_error(target)
        return model

    def _is_current(self, version: listing.Version) -> bool:
        return self._current is not None and (
            (self._current.number, self._current.digest)
            == (version.number, version.digest)
        )

    def _unload_if_unused(self, model: Model) -> None:
        if not model.users and model.number != getattr(self._current, "number", None):
            self._set_state(model.number, "END")
            _log.info("version %d is unloaded", model.number)

    def _set_state(
        self, number: int, state: str, *, code: str = "OK", text: str = ""
    ) -> None:
        self._states[number] = protocol.describe_status(
            number, state, code=code, message=text
        )

    def _log_once(self, text: str, level: int = logging.INFO) -> None:
        """Logs a message unless it was logged since the state last changed."""
        if text not in self._logged:
            self._logged.add(text)
            _log.log(level, text)


def _freeze_objects() -> None:
    """Collects garbage, then excludes all remaining objects from later collections.

    The JSON of 32 images has 25,000 lists, so each fifth request would start a full
    collection. With TensorFlow's objects, that takes a third of a second.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
