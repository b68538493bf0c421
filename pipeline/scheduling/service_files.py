"""The service files for a schedule: systemd's units and the lines of a crontab."""

import pathlib
import re
import shlex
from collections.abc import Sequence

from pipeline.config.loading import ConfigError
from pipeline.exit_codes import REFUSED
from pipeline.scheduling.cron import CronSchedule


def make_systemd_units(
    schedule: CronSchedule, *, command: Sequence[str], folder: pathlib.Path
) -> str:
    """Returns the text of a systemd service and a timer that run a command.

    Args:
      schedule: the schedule.
      command: the program and its arguments.
      folder: the working directory of the command.

    Raises:
      ConfigError: the command or the folder has a line break.

    Source: systemd.service(5), "Command lines", and systemd.timer(5).
    """
    events = "\n".join(f"OnCalendar={event}" for event in schedule.to_systemd_events())
    _check_one_line([str(folder), *command])
    # systemd expands variables in the arguments, but not in the program's path.
    program, *args = map(_quote_for_systemd, command)
    words = [program, *(arg.replace("$", "$$") for arg in args)]
    return f"""\
# Two files, for ~/.config/systemd/user/. Then:
#   systemctl --user daemon-reload
#   systemctl --user enable --now vae-pipeline.timer
#   loginctl enable-linger    # it also runs while you are not logged in
# To see when it runs next and how its runs ended:
#   systemctl --user list-timers vae-pipeline.timer
#   journalctl --user --unit vae-pipeline.service

# ~/.config/systemd/user/vae-pipeline.service
[Unit]
Description=A run of the VAE pipeline

[Service]
Type=oneshot
WorkingDirectory={str(folder.absolute()).replace("%", "%%")}
ExecStart={" ".join(words)}
# Exit code {REFUSED}: the gate refused the model, and the run itself succeeded.
SuccessExitStatus={REFUSED}
# Credentials of the destination, if it needs any, as NAME=VALUE lines:
# EnvironmentFile=%h/.config/vae-pipeline.env
NoNewPrivileges=true
RestrictSUIDSGID=true
RestrictRealtime=true
LockPersonality=true

# ~/.config/systemd/user/vae-pipeline.timer
[Unit]
Description=The times of the VAE pipeline

[Timer]
{events}
# After a start of the machine, it runs once if a time was missed.
Persistent=true

[Install]
WantedBy=timers.target
"""


def make_crontab_lines(
    schedule: CronSchedule,
    *,
    command: Sequence[str],
    folder: pathlib.Path,
    logs: pathlib.Path,
) -> str:
    """Returns the lines for `crontab -e` that run a command.

    Args:
      schedule: the schedule.
      command: the program and its arguments.
      folder: the working directory of the command.
      logs: the folder of cron.log, which gets the command's output.

    Raises:
      ConfigError: the command or a folder has a line break.
    """
    _check_one_line([str(folder), str(logs), *command])
    shell = (
        f"cd {shlex.quote(str(folder.absolute()))} && "
        f"mkdir -p {shlex.quote(str(logs))} && "
        f"exec {shlex.join(command)} >>{shlex.quote(str(logs / 'cron.log'))} 2>&1"
    )
    # cron ends the command at a %, and reads \% as a %. A backslash that belongs to a
    # word must not be next to it, so the word's quotes end and begin again in between.
    shell = re.sub(r"(?<=\\)%", "''%", shell).replace("%", r"\%")
    line = f"{schedule.expression} {shell}\n"
    if schedule.timezone is None:
        return line
    return (
        "# cronie (Fedora, RHEL, Arch) and NetBSD's cron use CRON_TZ for all lines "
        "below it.\n# Others, such as Debian's and Ubuntu's, use local time only.\n"
        f"CRON_TZ={schedule.timezone}\n{line}"
    )


def _quote_for_systemd(word: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9_+=:,./-]+", word):
        return word
    word = word.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%")
    return f'"{word}"'


def _check_one_line(words: Sequence[str]) -> None:
    for word in words:
        if "\n" in word or "\r" in word:
            raise ConfigError(
                "the command and the folders for cron or systemd must have no line "
                f"breaks, got {word!r}: put such a setting in a file (--config)"
            )
