"""Tells others how a run ended: a webhook, a command. Neither can change that end."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
from collections.abc import Callable

from model.files import safe_paths
from pipeline.config.notifications import NotifyConfig, check_url
from pipeline.runs import run_record as records
from pipeline.runs import webhook
from pipeline.runs.run_record import RunRecord


class NotifyError(Exception):
    """A target could not be told; the message holds no secret."""


def send(
    config: NotifyConfig, record: RunRecord, text: str, say: Callable[[str], None]
) -> None:
    """Tells each target of a run's end, if it is one of `config.events`.

    Each takes `config.timeout` seconds at most; what does not work is said in a line.

    Args:
      config: whom to tell of what.
      record: of the run.
      text: the record in a line for people; chat services show the field of this name.
      say: prints a line.
    """
    if record.verdict not in config.events:
        return
    body = json.dumps({"text": text, **records.to_dict(record)})
    if config.webhook:
        _try("webhook", lambda: _post(config, body), say)
    if config.command:
        _try("command", lambda: _run(config, body, record.verdict), say)


def problems(config: NotifyConfig) -> list[str]:
    """Returns what is wrong with the secrets that the settings name, as of now."""
    found: list[str] = []
    for target in (lambda: _url(config), lambda: _secret(config.token, "token")):
        _try("webhook", target, found.append)
    return found


def _try(target: str, tell: Callable[[], object], say: Callable[[str], None]) -> None:
    try:
        tell()
    except (NotifyError, webhook.WebhookError) as error:
        say(f"notify: {target}: {error}")


def _url(config: NotifyConfig) -> str:
    url = _secret(config.webhook, "webhook")
    try:
        if url:
            check_url(url)
    except ValueError as error:
        raise NotifyError(str(error)) from error
    return url


def _post(config: NotifyConfig, body: str) -> None:
    token = _secret(config.token, "token")
    webhook.post(_url(config), token, body, config.timeout)


def _run(config: NotifyConfig, body: str, event: str) -> None:
    name, *arguments = config.command
    try:
        process = subprocess.Popen(
            [safe_paths.expand_home(name), *arguments],
            stdin=subprocess.PIPE,
            env={**os.environ, "VAE_PIPELINE_EVENT": event},
            start_new_session=True,  # of its own, to be killed as a whole
        )
    except (OSError, safe_paths.PathError) as error:
        why = getattr(error, "strerror", error)
        raise NotifyError(f"{name} can't be started: {why}") from error
    try:
        process.communicate(body.encode(), timeout=config.timeout)
    except subprocess.TimeoutExpired as error:
        raise NotifyError(
            f"{name} did not end in {config.timeout:g} s and was killed"
        ) from error
    finally:
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        raise NotifyError(f"{name} ended with exit code {process.returncode}")


def _secret(setting: str, field: str) -> str:
    """Returns what a setting means: itself, or what env:NAME or file:PATH holds."""
    kind, _, where = setting.partition(":")
    if kind == "env":
        value = os.environ.get(where, "").strip()
        if not value:
            raise NotifyError(
                f"the environment variable {where}, which notify.{field} names, must "
                "be set"
            )
        return value
    if kind == "file":
        try:
            path = pathlib.Path(safe_paths.expand_home(where))
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError, safe_paths.PathError) as error:
            is_home = isinstance(error, safe_paths.PathError)
            why = str(error) if is_home else getattr(error, "strerror", "not UTF-8")
            raise NotifyError(
                f"the file {where}, which notify.{field} names, can't be read: {why}"
            ) from error
        if not value:
            raise NotifyError(
                f"the file {where}, which notify.{field} names, must not be empty"
            )
        return value
    return setting
