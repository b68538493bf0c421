"""Cron expressions: parsed once, for the local scheduler, systemd, crontab and KFP."""

import calendar
import dataclasses
import datetime
import difflib
import re
import zoneinfo
from collections.abc import Callable, Collection

import tzlocal
from cronsim import CronSim, CronSimError
from cronsim.cronsim import Field

from pipeline.config.loading import ConfigError

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")  # as cron counts them

_LEAP_YEAR = 2024

# More than all values of all five fields as lists, which take 356.
_MAX_CHARACTERS = 400

_MINUTE = datetime.timedelta(minutes=1)
_UTC = datetime.timezone.utc

# A value; or a star or a range, perhaps with a step. Without re.ASCII, letters such as
# the long s match too. What crons, systemd and KFP disagree on is not matched: L, W, #,
# ?, and a step after a single value (5/10).
_PART = re.compile(
    r"[0-9]+|[a-z]{3}"
    r"|(?P<whole>\*|(?P<first>[0-9]+|[a-z]{3})-(?P<last>[0-9]+|[a-z]{3}))"
    r"(?:/(?P<step>[0-9]+))?",
    re.ASCII | re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _FieldLimits:
    name: str
    field: Field
    first: int
    last: int
    count: int
    first_name: str = ""
    last_name: str = ""


_FIELDS = (
    _FieldLimits(name="minute", field=Field.MINUTE, first=0, last=59, count=60),
    _FieldLimits(name="hour", field=Field.HOUR, first=0, last=23, count=24),
    _FieldLimits(name="day of the month", field=Field.DAY, first=1, last=31, count=31),
    _FieldLimits(
        name="month",
        field=Field.MONTH,
        first=1,
        last=12,
        count=12,
        first_name="jan",
        last_name="dec",
    ),
    _FieldLimits(
        name="weekday",
        field=Field.DOW,
        first=0,
        last=7,  # Sunday, as 0 is
        count=7,
        first_name="sun",
        last_name="sat",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CronSchedule:
    """A cron expression and its time zone.

    Attributes:
      expression: the five fields as they were written, with one blank between them.
      timezone: a name of the IANA database; None: local time.
      minutes, hours, days, months: the values that match, in order.
      weekdays: the weekdays that match, in order; 0 is Sunday, and there is no 7.
    """

    expression: str
    timezone: str | None
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: tuple[int, ...]
    months: tuple[int, ...]
    weekdays: tuple[int, ...]

    @property
    def is_one_day_enough(self) -> bool:
        """Whether the day of the month or the weekday is enough, not both needed.

        Source: crontab(5): if both are restricted, that is, begin with no star.
        """
        _, _, day, _, weekday = self.expression.split()
        return not (day.startswith("*") or weekday.startswith("*"))

    def find_zone(self) -> zoneinfo.ZoneInfo:
        """Returns the time zone.

        Raises:
          ConfigError: it is the local one, and is not in the IANA database.
        """
        if self.timezone is not None:
            return zoneinfo.ZoneInfo(self.timezone)
        try:
            return tzlocal.get_localzone()
        except zoneinfo.ZoneInfoNotFoundError as error:
            reason = str(error.args[0]).splitlines()[0]
            raise ConfigError(
                "the local time zone must be one of the IANA database "
                f"({reason}): set TZ, or name the time zone, such as Europe/Berlin"
            ) from error

    def find_next_time(self, now: datetime.datetime) -> datetime.datetime:
        """Returns the first time of the schedule after `now`, in its time zone.

        A schedule for every hour goes by the real time that passes. A schedule for
        certain hours loses no time when the clocks change: a time that the clocks skip
        comes at the first minute that exists, and a time that they show twice comes
        once.
        """
        zone = self.find_zone()
        if len(self.hours) == 24:
            return self._find_next_real_time(now, zone)
        _, _, *dates = self.expression.split()
        # Lists, because cronsim skips times, as cron does, for a field with a star.
        fields = (_listed(self.minutes), _listed(self.hours), *dates)
        return next(
            time
            for time in CronSim(" ".join(fields), now.astimezone(zone))
            # In the hour that comes again, cronsim finds times of the first one.
            if time.astimezone(_UTC) > now
        )

    def to_systemd_events(self) -> list[str]:
        """Returns systemd's calendar events that together match the schedule.

        Source: systemd.time(7), "Calendar Events".
        """
        hours, minutes = _listed(self.hours, count=24), _listed(self.minutes, count=60)
        zone = f" {self.timezone}" if self.timezone else ""
        clock = f"{hours}:{minutes}:00{zone}"
        months, days = _listed(self.months, count=12), _listed(self.days, count=31)
        weekdays = _listed(self.weekdays, count=7, format_value=_WEEKDAYS.__getitem__)
        weekdays = "" if weekdays == "*" else f"{weekdays} "
        if self.is_one_day_enough:
            return [f"*-{months}-{days} {clock}", f"{weekdays}*-{months}-* {clock}"]
        return [f"{weekdays}*-{months}-{days} {clock}"]

    def to_kfp(self) -> str:
        """Returns the cron expression for KFP: seconds first, and no 7 for Sunday.

        Source: github.com/robfig/cron 1.2, which KFP's API server and controller use.
        """
        minute, hour, day, month, weekday = self.expression.split()
        day = _format_kfp_days(day, self.days)
        weekday = _format_kfp_days(weekday, self.weekdays)
        return " ".join(("0", minute, hour, day, month, weekday))

    def _find_next_real_time(
        self, now: datetime.datetime, zone: zoneinfo.ZoneInfo
    ) -> datetime.datetime:
        """Returns the first minute after `now` that matches; each hour matches."""
        # Not by cronsim, which misses a time when clocks change by half an hour.
        time = now.astimezone(_UTC).replace(second=0, microsecond=0)
        while True:
            time += _MINUTE
            local = time.astimezone(zone)
            if not self._has_date(local):
                tomorrow = local.date() + datetime.timedelta(days=1)
                midnight = datetime.datetime.combine(tomorrow, datetime.time.min, zone)
                time = max(time, midnight.astimezone(_UTC) - _MINUTE)
            elif local.minute in self.minutes:
                return local

    def _has_date(self, date: datetime.date) -> bool:
        matches = (date.day in self.days, date.isoweekday() % 7 in self.weekdays)
        are_days_right = any(matches) if self.is_one_day_enough else all(matches)
        return date.month in self.months and are_days_right


def parse_cron(cron: str, timezone: str | None) -> CronSchedule:
    """Returns the schedule of a cron expression.

    Args:
      cron: five fields.
      timezone: a name of the IANA database; None: local time.

    Raises:
      ConfigError: it is no cron expression, cron, systemd and KFP would not all run it
        at the same times, or there is no such time zone.
    """
    if len(cron) > _MAX_CHARACTERS:
        raise ConfigError(
            f"the cron expression must have at most {_MAX_CHARACTERS} characters, got "
            f"{len(cron)}: {cron[:40]!r}..."
        )
    texts = cron.split()
    if len(texts) != len(_FIELDS):
        raise ConfigError(
            "the cron expression must be five fields (minute, hour, day of the month, "
            "month, weekday) with no blanks inside a field, such as '0 3 * * *', got "
            f"{cron!r}"
        )
    minutes, hours, days, months, weekdays = (
        _find_values(text, limits, cron=cron) for text, limits in zip(texts, _FIELDS)
    )
    if min(days) > max(calendar.monthrange(_LEAP_YEAR, month)[1] for month in months):
        raise ConfigError(
            "the cron expression must have a day of the month that there is in one of "
            f"its months, got {cron!r}"
        )
    _check_timezone(timezone)
    return CronSchedule(
        expression=" ".join(texts),
        timezone=timezone,
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=tuple(sorted(days)),
        months=tuple(sorted(months)),
        weekdays=tuple(sorted(weekdays)),
    )


def _find_values(text: str, limits: _FieldLimits, *, cron: str) -> set[int]:
    """Returns the values that a field matches; Sunday is 0."""
    values: set[int] = set()
    for part in text.split(","):
        match = _PART.fullmatch(part)
        if match is None:
            raise _make_error(text, limits, cron=cron)
        if match["first"] and not match["step"]:
            _check_range_rises(match, limits, cron=cron)
        found = _parse_part(part, limits)
        if not found:
            raise _make_error(text, limits, cron=cron)
        if match["step"]:
            _check_step(match, limits, cron=cron)
        values |= found
    return values


def _parse_part(part: str, limits: _FieldLimits) -> set[int]:
    """Returns the values that a part of a list matches; empty: the part is wrong."""
    try:
        items = limits.field.parse(part.upper())
    except CronSimError:
        return set()
    values = {item for item in items if isinstance(item, int)}
    return {day % 7 for day in values} if limits.field is Field.DOW else values


def _check_step(match: re.Match[str], limits: _FieldLimits, *, cron: str) -> None:
    """Raises ConfigError for a step that skips all values but the first."""
    # cronsim reads 5-5/10 as 5-59/10.
    count = len(_parse_part(match["whole"], limits))
    if int(match["step"]) >= count:
        raise ConfigError(
            f"the {limits.name} of a cron expression must have a step below the number "
            f"of values in its range, which is {count} for {match['whole']!r}, got "
            f"{match[0]!r} in {cron!r}: the first value alone would match"
        )


def _check_range_rises(
    match: re.Match[str], limits: _FieldLimits, *, cron: str
) -> None:
    """Raises ConfigError for a range that falls; the message has a list for it."""
    first, last = match["first"].lower(), match["last"].lower()
    is_falling = (
        _parse_part(first, limits)
        and _parse_part(last, limits)
        and not _parse_part(match[0], limits)
    )
    if not is_falling:
        return
    # For weekdays 0-6, not 0-7, where Sunday is twice.
    highest = str(limits.first + limits.count - 1)
    lowest = str(limits.first)
    if first.isalpha():
        highest = limits.last_name
    if last.isalpha():
        lowest = limits.first_name
    parts = (
        first if first == highest else f"{first}-{highest}",
        last if last == lowest else f"{lowest}-{last}",
    )
    raise ConfigError(
        f"the {limits.name} of a cron expression must have ranges that rise, got "
        f"{match[0]!r} in {cron!r}: write {','.join(parts)!r}"
    )


def _make_error(text: str, limits: _FieldLimits, *, cron: str) -> ConfigError:
    names = f" or {limits.first_name}-{limits.last_name}" if limits.first_name else ""
    return ConfigError(
        f"the {limits.name} of a cron expression must be in {limits.first}-"
        f"{limits.last}{names}: a value, a rising range (a-b), either in a list (a,b), "
        "or with a step (*/n or a-b/n) of at least 1; got "
        f"{text!r} in {cron!r}"
    )


def _check_timezone(timezone: str | None) -> None:
    """Raises ConfigError for an unknown time zone."""
    # ZoneInfo() also takes right/UTC, whose clock counts leap seconds.
    known = zoneinfo.available_timezones()
    if timezone is None or timezone in known:
        return
    names = {name.lower(): name for name in known}
    close = difflib.get_close_matches(timezone.lower(), names, n=1)
    hint = f", did you mean {names[close[0]]}?" if close else ""
    raise ConfigError(
        "the time zone must be a name of the IANA database, such as Europe/Berlin "
        f"or UTC, got {timezone!r}{hint}"
    )


def _format_kfp_days(text: str, values: Collection[int]) -> str:
    """Returns a day field in which a star is at the start or nowhere.

    cron asks whether the field begins with a star before it decides whether one of the
    two days is enough. KFP asks whether there is a star anywhere in the field.
    """
    first, comma, _ = text.partition(",")
    if not first.startswith("*"):
        return _listed(values, format_value=str)
    return f"{first},{_listed(values, format_value=str)}" if comma else text


def _listed(
    values: Collection[int],
    *,
    count: int | None = None,
    format_value: Callable[[int], str] = "{:02}".format,
) -> str:
    """Returns the values as a list, or a star if all `count` values are there."""
    return "*" if len(values) == count else ",".join(map(format_value, values))
