"""Downloads that end in time, whatever the network does."""

import hashlib
import queue
import threading
import urllib.parse
from typing import Any

import requests

from components.datasets import idx
from components.datasets.idx import DataAccessError, DataError
from model.training.progress import log_if_slow


def download_idx_arrays(builder_cls: Any, seconds: float) -> idx.Arrays:
    """Downloads the four IDX files that a TFDS builder names.

    Not with TFDS's own downloader: it knows no time-out, and tries ten times.
    """
    streams = {}
    for stream in idx.STREAMS:
        url = urllib.parse.urljoin(builder_cls.URL, f"{idx.file_name(stream)}.gz")
        with (
            log_if_slow(f"downloading {url}"),
            open_url(url, seconds) as response,
        ):
            try:
                response.raise_for_status()
                data = response.content
            except requests.RequestException as error:
                # A server that answers, and has no such file, will not have it later.
                refused = 400 <= response.status_code < 500
                kind = DataError if refused else DataAccessError
                raise kind(
                    f"{url} cannot be downloaded: {error}; try again later, or use "
                    "another source"
                ) from error
        known = (builder_cls.url_infos or {}).get(url)
        found = hashlib.sha256(data).hexdigest()
        if known and known.checksum != found:
            raise DataError(
                f"{url} has the SHA-256 {found}, expected {known.checksum} by TFDS; "
                "try again later, or use another source"
            )
        streams[stream] = (url, data)
    return idx.parse_streams(streams)


def open_url(url: str, seconds: float) -> requests.Response:
    """Returns the response to a GET, its body still to be read.

    Raises:
      DataAccessError: after `seconds` at the latest, whatever the network does.
    """
    answers: queue.Queue[requests.Response | Exception] = queue.Queue()

    def ask() -> None:
        try:
            # identity: a server may otherwise send a .gz such that it is unpacked here
            headers = {"Accept-Encoding": "identity"}
            answers.put(
                requests.get(url, stream=True, timeout=seconds, headers=headers)
            )
        except (OSError, ValueError) as error:  # raised below, in the caller's thread
            answers.put(error)

    # In a thread, for the time-out of `requests` holds for each of a host's addresses
    # anew, and not for the look-up of its name.
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=seconds)
    except queue.Empty:
        answer = requests.Timeout()
    if isinstance(answer, requests.Response):
        return answer
    problem = f"cannot be reached ({type(answer).__name__})"
    if isinstance(answer, requests.Timeout):
        problem = f"did not answer within {seconds:g} s"
    raise DataAccessError(
        f"{url} {problem}; check the network, or use another source"
    ) from answer
