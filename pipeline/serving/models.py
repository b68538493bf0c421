"""The version that is served now: found, loaded, and exchanged for a newer one."""

import asyncio
import concurrent.futures
import contextlib
import functools
import gc
import logging
from collections.abc import Iterator
from typing import Any

from components.registry import listing
from pipeline.serving import protocol
from pipeline.serving.batching import Limits
from pipeline.serving.model import Model
from pipeline.serving.protocol import RequestError, Target

_log = logging.getLogger(__name__)


class Models:
    """The versions of one model; one at a time takes requests.

    The one that `versions.intact` names is loaded beside the one that is served, in a
    thread, and takes its place from one request to the next. The old one answers what
    it has begun. A version that cannot be loaded is logged, and the served one stays.
    """

    def __init__(self, name: str, destination: str, *, limits: Limits, threads: int):
        """Makes it, without a model yet.

        Args:
          name: of the model, in the paths.
          destination: the folder of versions, or its URI.
          limits: of the batches.
          threads: that call the model.
        """
        self.name = name
        self._destination = destination
        self._limits = limits
        # Loading has a thread of its own: it must not wait for requests.
        self._loader = concurrent.futures.ThreadPoolExecutor(1, "load")
        self.executor = concurrent.futures.ThreadPoolExecutor(threads, "predict")
        self._current: Model | None = None
        self._states: dict[int, dict[str, Any]] = {}
        self._said: set[str] = set()
        self._glance: Any = None  # at the destination, when all of it was last read

    @property
    def ready(self) -> bool:
        """Whether there is a model that answers."""
        return self._current is not None

    async def watch(self, seconds: float) -> None:
        """Looks for another version every so many seconds, for ever."""
        while True:
            await self.refresh()
            await asyncio.sleep(seconds)

    async def refresh(self) -> None:
        """Serves what is to be served now, if it is not that already."""
        loop = asyncio.get_running_loop()
        version = None
        try:
            glance = await loop.run_in_executor(
                self._loader, listing.read_newest_manifest, self._destination
            )
            if self.ready and glance == self._glance:
                self._said.clear()
                return
            version, damaged = await loop.run_in_executor(
                self._loader, listing.find_served_and_damaged, self._destination
            )
            for other in damaged:
                self._say(
                    f"version {other.number} of {self._destination} is not served: "
                    f"{other.why}",
                    # One without a manifest is another's, or still on its way.
                    logging.WARNING if other.has_manifest else logging.INFO,
                )
            if version is None:
                self._say(f"nothing is at {self._destination} yet: waiting for a push")
                return
            if self._is_current(version):
                self._glance = glance
                return
            self._set(version.number, "LOADING")
            load = functools.partial(Model, version, self.executor, limits=self._limits)
            model = await loop.run_in_executor(self._loader, load)
            await loop.run_in_executor(self._loader, _settle)
        except Exception as error:  # whatever it is, what is served must stay
            if version is not None:
                self._set(version.number, "END", code="DATA_LOSS", text=str(error))
            what = "the newest version" if version is None else version.path
            self._say(f"can't serve {what}: {error}", logging.ERROR)
            return
        old, self._current = self._current, model
        self._glance = glance
        self._said.clear()
        self._set(model.number, "AVAILABLE")
        _log.info("serving version %d of %s", model.number, self._destination)
        if old is not None:
            self._set(old.number, "UNLOADING")
            self._unload_if_unused(old)

    @contextlib.contextmanager
    def model(self, wanted: Target) -> Iterator[Model]:
        """Gives the model that a request is for; it stays until the block ends.

        Raises:
          RequestError: there is none such.
        """
        model = self._find(wanted)
        model.users += 1
        try:
            yield model
        finally:
            model.users -= 1
            if model is not self._current:
                self._unload_if_unused(model)

    def metadata(self, wanted: Target) -> dict[str, Any]:
        """Returns the answer to a request for metadata."""
        model = self._find(wanted)
        spec = {
            "name": self.name,
            "signature_name": "",
            "version": str(model.number),
        }
        signatures = {"signature_def": model.signature_def}
        return {"model_spec": spec, "metadata": {"signature_def": signatures}}

    def status(self, wanted: Target) -> dict[str, Any]:
        """Returns the answer to a request for the status, newest version first."""
        if wanted.label is not None:
            self._find(wanted)
        states = self._states if wanted.model == self.name else {}
        if wanted.version is not None:
            states = {n: s for n, s in states.items() if n == wanted.version}
        if not states:
            which = "any versions" if wanted.version is None else "version"
            number = "" if wanted.version is None else f" {wanted.version}"
            raise RequestError(
                404, f"Could not find {which}{number} of model {wanted.model}"
            )
        return {"model_version_status": [states[n] for n in sorted(states)[::-1]]}

    def close(self) -> None:
        """Lets the threads end; what they compute, they finish."""
        self._loader.shutdown(wait=False)
        self.executor.shutdown(wait=False)

    def _find(self, wanted: Target) -> Model:
        if wanted.label is not None:
            raise RequestError(
                400, f"Unrecognized servable version label: {wanted.label}"
            )
        model = self._current
        if model is None or wanted.model != self.name:
            raise protocol.not_found(wanted)
        if wanted.version not in (None, model.number):
            raise protocol.not_found(wanted)
        return model

    def _is_current(self, version: listing.Version) -> bool:
        return self._current is not None and (
            (self._current.number, self._current.digest)
            == (version.number, version.digest)
        )

    def _unload_if_unused(self, model: Model) -> None:
        if not model.users and model.number != getattr(self._current, "number", None):
            self._set(model.number, "END")
            _log.info("version %d is unloaded", model.number)

    def _set(
        self, number: int, state: str, *, code: str = "OK", text: str = ""
    ) -> None:
        self._states[number] = protocol.status(number, state, code=code, message=text)

    def _say(self, text: str, level: int = logging.INFO) -> None:
        """Logs what holds until it changes, once."""
        if text not in self._said:
            self._said.add(text)
            _log.log(level, text)


def _settle() -> None:
    """Keeps the garbage collector off what is loaded, once it has done its work.

    A body of 32 images is 25,000 lists, which make it look at everything: at what
    TensorFlow has, too, for a third of a second at each fifth request.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
