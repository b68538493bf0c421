"""Notifications of the ends of runs: a webhook and a command."""

import contextlib
import io
import json
import logging
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable
from typing import cast

from model.errors import INVISIBLE, PipelineError, escape_controls
from model.files import safe_paths, secret_values
from model.training import signals
from pipeline.config.notifications import (
    NotifyConfig,
    fill_template,
    find_url_problem,
)
from pipeline.runs import process, run_record, webhook
from pipeline.runs.run_record import RunRecord

_KEPT_OUTPUT = 10_000  # bytes of a command's output that are logged
_OUTPUT_WAIT = 0.5  # seconds for the last output of a command that has ended
_LONGEST_TEXT = 1_900  # characters in a template; Discord refuses more than 2,000
_LONGEST_NAME = 200  # characters of a program's or a file's name in a message
_MARKER = "VAE_PIPELINE_COMMAND_ID"  # variable of all processes of one command


class NotifyError(PipelineError):
    """The webhook or the command failed; the message contains no secret."""


def send(
    config: NotifyConfig,
    record: RunRecord,
    *,
    text: str,
    print_line: Callable[[str], None],
) -> None:
    """Posts a run's record to the webhook and passes it to the command.

    This does nothing if the run's status is not in `config.events`. The webhook and the
    command take at most `config.timeout` seconds each. A failure is only printed.

    Args:
      config: the webhook, the command and the events.
      record: the record of the run.
      text: one line for people; it is sent as `text`, which chat services show.
      print_line: prints a line for people.
    """
    event = record.status.value
    if event not in config.events:
        return
    body = json.dumps({"text": text, **run_record.to_dict(record)})
    payload = body
    if config.template:
        payload = fill_template(
            config.template,
            {
                "text": _shorten(text),
                "event": event,
                "model": record.model,
                "run_id": record.run_id,
            },
        )
    if config.webhook:
        _call_and_print_error(
            "webhook", lambda: _post(config, payload), print_line=print_line
        )
    if config.command:
        _call_and_print_error(
            "command",
            lambda: _run_command(config, body, event=event),
            print_line=print_line,
        )


def find_problems(config: NotifyConfig) -> list[str]:
    """Reads the webhook's URL and token, and returns a message for each failure."""
    problems: list[str] = []
    for read in (
        lambda: _read_url(config),
        lambda: _read_secret(config.token, field="token"),
    ):
        _call_and_print_error("webhook", read, print_line=problems.append)
    return problems


def _shorten(text: str) -> str:
    is_long = len(text) > _LONGEST_TEXT
    return f"{text[:_LONGEST_TEXT]} (shortened)" if is_long else text


def _call_and_print_error(
    target: str, action: Callable[[], object], *, print_line: Callable[[str], None]
) -> None:
    """Calls `action`, and prints its NotifyError or WebhookError."""
    try:
        action()
    except (NotifyError, webhook.WebhookError) as error:
        print_line(f"notify: {target}: {error}")


def _read_url(config: NotifyConfig) -> str:
    url = _read_secret(config.webhook, field="webhook")
    if url and (problem := find_url_problem(url)):
        raise NotifyError(problem)
    return url


def _post(config: NotifyConfig, body: str) -> None:
    token = _read_secret(config.token, field="token")
    if INVISIBLE.search(token):
        raise NotifyError(
            "the token that notify.token names must have no control characters"
        )
    webhook.post(_read_url(config), token=token, body=body, timeout=config.timeout)


def _run_command(config: NotifyConfig, body: str, *, event: str) -> None:
    name = config.command[0][:_LONGEST_NAME]
    command = output = None
    marker = uuid.uuid4().hex
    variables = {"VAE_PIPELINE_EVENT": event, _MARKER: marker}
    with process.adopted_orphans() as kill_descendants:
        try:
            # Defers an interrupt until `command` is set, so that `finally` ends it.
            with signals.defer_signals():
                command = _start_command(config.command, variables)
                output = _Output(command)
            command.communicate(body.encode(), timeout=config.timeout)
        except subprocess.TimeoutExpired as error:
            raise NotifyError(
                f"{name} did not end in {config.timeout:g} s and was killed"
            ) from error
        finally:
            if command is not None and command.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(command.pid, signal.SIGKILL)
                process.kill_by_environment(_MARKER, marker)
                kill_descendants()
                command.wait()
            if output is not None:
                output.log(name)
    if command.returncode:
        raise NotifyError(f"{name} ended with exit code {command.returncode}")


def _start_command(
    words: list[str], variables: dict[str, str]
) -> subprocess.Popen[bytes]:
    program, *arguments = words
    try:
        return subprocess.Popen(
            [safe_paths.expand_home(program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **variables},
            start_new_session=True,  # so that killpg ends its child processes, too
        )
    except (OSError, safe_paths.PathError) as error:
        why = getattr(error, "strerror", error)
        name = program[:_LONGEST_NAME]
        raise NotifyError(f"{name} can't be started: {why}") from error


class _Output:
    """The last bytes of what a command prints, which a thread reads.

    A process that the command leaves behind may keep the pipe open. So the thread is a
    daemon, and nothing waits for the pipe's end.
    """

    def __init__(self, command: subprocess.Popen[bytes]):
        self._pipe = cast(io.BufferedReader, command.stdout)
        command.stdout = None  # or `communicate` would read it, all of it
        self._read_so_far = (0, b"")  # the number of bytes, and the last of them
        self._is_logged = False
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe as pipe:
            while not self._is_logged and (chunk := pipe.read1(65_536)):
                size, tail = self._read_so_far
                tail = (tail + chunk)[-_KEPT_OUTPUT:]
                self._read_so_far = (size + len(chunk), tail)

    def log(self, name: str) -> None:
        """Logs the last bytes, and how many bytes were dropped before them."""
        self._thread.join(_OUTPUT_WAIT)
        self._is_logged = True  # ends the thread at the next bytes
        size, tail = self._read_so_far
        if tail:
            dropped = size - len(tail)
            note = f", here without its first {dropped:,} bytes" if dropped else ""
            text = escape_controls(tail.decode(errors="backslashreplace"))
            logging.info("the output of %s%s:\n%s", name, note, text)


def _read_secret(setting: str, *, field: str) -> str:
    """Returns the value that env:NAME or file:PATH refers to, or the setting itself."""
    if not secret_values.REFERENCE.fullmatch(setting):
        return setting
    try:
        return secret_values.read_secret(setting, setting=f"notify.{field}")
    except secret_values.SecretError as error:
        raise NotifyError(str(error)) from error
