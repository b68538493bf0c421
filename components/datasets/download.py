"""Downloads of files over HTTP, with a time limit that also holds for name look-ups."""

import hashlib
import queue
import threading
import urllib.parse
from typing import Any

import requests

from components.datasets import idx
from components.datasets.idx import DataAccessError, DataError
from model.training.progress import log_if_slow

_CHUNK_BYTES = 64 * 1024


def download_idx_arrays(builder_cls: Any, seconds: float) -> idx.Arrays:
    """Downloads and parses the four IDX files of a TFDS builder such as MNIST's.

    TFDS's own downloader is not used, because it has no time-out and tries ten times.

    Args:
      builder_cls: a TFDS builder class with the attributes `URL` and `url_infos`.
      seconds: the longest time without an answer, for each file.

    Raises:
      DataError: a file does not exist, is damaged, or has another SHA-256 than in TFDS.
      DataAccessError: the network or the server failed.
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
                data = _read_content(response, idx.max_file_bytes(stream))
            except requests.RequestException as error:
                # With a status of 400 to 499, a later attempt would fail, too.
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


def _read_content(response: requests.Response, limit: int) -> bytes:
    """Returns the body of a response; raises DataError if it has more than `limit`."""
    data = bytearray()
    for chunk in response.iter_content(_CHUNK_BYTES):
        data += chunk
        if len(data) > limit:
            raise DataError(
                f"{response.url} sends more than {limit:,} bytes, expected at most as "
                f"many for {idx.MAX_IMAGES:,} images or labels; use another source"
            )
    return bytes(data)


def open_url(url: str, seconds: float) -> requests.Response:
    """Sends a GET request and returns the response, whose body is not yet read.

    Args:
      url: the address of the file.
      seconds: the longest time to wait for the response.

    Raises:
      DataAccessError: the server can't be reached or did not answer in time.
    """
    answers: queue.Queue[requests.Response | Exception] = queue.Queue()

    def request() -> None:
        try:
            # Without `identity`, requests may unpack a .gz file that a server sends.
            headers = {"Accept-Encoding": "identity"}
            answers.put(
                requests.get(url, stream=True, timeout=seconds, headers=headers)
            )
        except (OSError, ValueError) as error:  # raised below, in the caller's thread
            answers.put(error)

    # In a thread, because the time-out of `requests` applies to each address of a host
    # separately, and not to the look-up of its name.
    threading.Thread(target=request, daemon=True).start()
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
