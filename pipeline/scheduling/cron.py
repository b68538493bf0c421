"""Cron expressions: checked, and translated for APScheduler, systemd and KFP."""

import calendar
import dataclasses
import re
import zoneinfo
from collections.abc import Callable, Sequence

from apscheduler.triggers.base import BaseTrigger
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger

from pipeline.config.loading import ConfigError

_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()  # noqa: SIM905
_WEEKDAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]  # as cron counts them

_LEAP_YEAR = 2024

# A star, a value or a range; then a step.
_PART = re.compile(r"(?:\*|([0-9]+|[a-z]+)(?:-([0-9]+|[a-z]+))?)(?:/([0-9]+))?")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Field:
    name: str
    first: int
    last: int
    names: Sequence[str] = ()  # names of the values, `first` and following


_FIELDS = (
    _Field(name="minute", first=0, last=59),
    _Field(name="hour", first=0, last=23),
    _Field(name="day of the month", first=1, last=31),
    _Field(name="month", first=1, last=12, names=_MONTHS),
    _Field(name="weekday", first=0, last=7, names=_WEEKDAYS),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Times:
    """The values of each field that an expression matches, in order."""

    minutes: list[int]
    hours: list[int]
    days: list[int]
    months: list[int]
    weekdays: list[int]  # 0 is Sunday; no 7
    is_either_enough: bool  # whether the day of the month or the weekday is enough


def check_cron(cron: str, timezone: str | None) -> None:
    """Raises ConfigError for a bad cron expression or an unknown time zone."""
    make_trigger(cron, timezone)


def make_trigger(cron: str, timezone: str | None) -> BaseTrigger:
    """Returns APScheduler's trigger of a cron expression.

    In the night when the clocks change, a time that they show twice comes twice, and a
    time that they skip comes as if they had not been changed.

    Args:
      cron: five fields.
      timezone: a name of the IANA database; None: local time.

    Raises:
      ConfigError: it is no cron expression, or there is no such time zone.
    """
    times, zone = _parse(cron), _zone(timezone)
    # Not by from_crontab(), which reads 0 as Monday and always requires both days.
    day = {"day": _listed(times.days, 31)}
    weekday = {
        "day_of_week": _listed(
            times.weekdays, 7, format_value=lambda day: str((day - 1) % 7)
        )
    }
    rest = {
        "minute": _listed(times.minutes, 60),
        "hour": _listed(times.hours, 24),
        "month": _listed(times.months, 12),
        "timezone": zone,
    }
    try:
        if times.is_either_enough:
            return OrTrigger(
                [CronTrigger(**day, **rest), CronTrigger(**weekday, **rest)]
            )
        return CronTrigger(**day, **weekday, **rest)
    except zoneinfo.ZoneInfoNotFoundError as error:
        reason = str(error.args[0]).splitlines()[0]
        raise ConfigError(
            f"the local time zone must be one of the IANA database ({reason}): set TZ, "
            "or name the time zone, such as Europe/Berlin"
        ) from error


def to_systemd_events(cron: str, timezone: str | None) -> list[str]:
    """Returns systemd's calendar events that together match a cron expression.

    Raises:
      ConfigError: it is no cron expression, or there is no such time zone.

    Source: systemd.time(7), "Calendar Events".
    """
    times = _parse(cron)
    _zone(timezone)
    hours, minutes = _listed(times.hours, 24), _listed(times.minutes, 60)
    clock = f"{hours}:{minutes}:00" + (f" {timezone}" if timezone else "")
    months, days = _listed(times.months, 12), _listed(times.days, 31)
    weekdays = _listed(
        times.weekdays, 7, format_value=lambda day: _WEEKDAYS[day].capitalize()
    )
    weekdays = "" if weekdays == "*" else f"{weekdays} "
    if times.is_either_enough:
        return [f"*-{months}-{days} {clock}", f"{weekdays}*-{months}-* {clock}"]
    return [f"{weekdays}*-{months}-{days} {clock}"]


def robfig(cron: str) -> str:
    """Returns a cron expression for KFP: with seconds first, and no 7 for Sunday.

    Raises:
      ConfigError: it is no cron expression.

    Source: github.com/robfig/cron 1.2, which KFP's API server and controller use.
    """
    times = _parse(cron)
    *others, weekday = cron.split()
    # A star stays a star, because it decides whether one of the days is enough.
    if not weekday.startswith("*"):
        weekday = ",".join(map(str, times.weekdays))
    return " ".join(("0", *others, weekday))


def _parse(cron: str) -> _Times:
    texts = cron.split()
    if len(texts) != len(_FIELDS):
        raise ConfigError(
            "the cron expression must be five fields (minute, hour, day of the month, "
            f"month, weekday), such as '0 3 * * *', got {cron!r}"
        )
    minutes, hours, days, months, weekdays = (
        _values(text, field, cron=cron) for text, field in zip(texts, _FIELDS)
    )
    if days[0] > max(calendar.monthrange(_LEAP_YEAR, month)[1] for month in months):
        raise ConfigError(
            "the cron expression must have a day of the month that there is in one of "
            f"its months, got {cron!r}"
        )
    return _Times(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=sorted({day % 7 for day in weekdays}),
        # crontab(5): one is enough if both are restricted, that is begin with no star.
        is_either_enough=not (texts[2].startswith("*") or texts[4].startswith("*")),
    )


def _values(text: str, field: _Field, *, cron: str) -> list[int]:
    """Returns the values that a field matches, in order."""
    values: set[int] = set()
    for part in text.lower().split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _make_error(text, field, cron=cron)
        first, last, step = match.groups()
        if step and first and not last:
            raise _make_error(
                text, field, cron=cron
            )  # 5/10: crons differ in what it means
        try:
            low = _value(first, field) if first else field.first
            high = _value(last or first, field) if first else field.last
            matched = range(low, high + 1, int(step or 1))  # no step of 0
        except ValueError as error:
            raise _make_error(text, field, cron=cron) from error
        if not field.first <= low <= high <= field.last:
            raise _make_error(text, field, cron=cron)
        values.update(matched)
    return sorted(values)


def _value(text: str, field: _Field) -> int:
    return int(text) if text.isdigit() else field.first + field.names.index(text)


def _make_error(text: str, field: _Field, *, cron: str) -> ConfigError:
    names = f" or {field.names[0]}-{field.names[-1]}" if field.names else ""
    return ConfigError(
        f"the {field.name} of a cron expression must be in {field.first}-{field.last}"
        f"{names}: a value, a rising range (a-b), either in a list (a,b), or with a "
        f"step (*/n or a-b/n) of at least 1; got {text!r} in {cron!r}"
    )


def _zone(timezone: str | None) -> zoneinfo.ZoneInfo | None:
    if timezone is None:
        return None
    try:
        return zoneinfo.ZoneInfo(timezone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(
            "the time zone must be a name of the IANA database, such as Europe/Berlin "
            f"or UTC, got {timezone!r}"
        ) from error


def _listed(
    values: list[int],
    count: int,
    *,
    format_value: Callable[[int], str] = "{:02}".format,
) -> str:
    """Returns the values as a list, or a star if all `count` values are there."""
    return "*" if len(values) == count else ",".join(map(format_value, values))
