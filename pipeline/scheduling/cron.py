"""Cron expressions: their parser, next times, and formats for systemd and KFP."""

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

_WEEKDAYS = ("Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat")  # cron's numbers 0 to 6

_LEAP_YEAR = 2024

# Lists of all values of all five fields have 356 characters.
_MAX_CHARACTERS = 400

_MINUTE = datetime.timedelta(minutes=1)
_UTC = datetime.timezone.utc

# A value; or a star or a range, perhaps with a step. Without re.ASCII, letters such as
# the long s would match too. The expression does not match what cron programs, systemd
# and KFP read in different ways: L, W, #, ?, and a step after a single value (5/10).
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
        last=7,  # Sunday, like 0
        count=7,
        first_name="sun",
        last_name="sat",
    ),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CronSchedule:
    """A cron expression and its time zone.

    Attributes:
      expression: the five fields as the user wrote them, separated by one space.
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
        """Returns whether the day of the month or the weekday is enough for a match.

        Otherwise both must match. One is enough if neither field begins with a star.

        Source: crontab(5).
        """
        _, _, day, _, weekday = self.expression.split()
        return not (day.startswith("*") or weekday.startswith("*"))

    def find_zone(self) -> zoneinfo.ZoneInfo:
        """Returns the schedule's time zone, by default the local one.

        Raises:
          ConfigError: the local time zone is not in the IANA database.
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

        When the clocks change, a schedule for every hour follows the real time that
        passes. A schedule for certain hours loses no time: if the clocks skip a time,
        the result is the first minute that exists; a time that the clocks show twice
        counts once.

        Args:
          now: a time with a time zone.
        """
        zone = self.find_zone()
        if len(self.hours) == 24:
            return self._find_next_real_time(now, zone)
        _, _, *dates = self.expression.split()
        # Lists, because cronsim, like cron, skips times if these fields have a star.
        fields = (_format_list(self.minutes), _format_list(self.hours), *dates)
        return next(
            time
            for time in CronSim(" ".join(fields), now.astimezone(zone))
            # When the clocks repeat an hour, cronsim also finds times of the first one.
            if time.astimezone(_UTC) > now
        )

    def to_systemd_events(self) -> list[str]:
        """Returns systemd's calendar events that together match the schedule.

        Source: systemd.time(7), "Calendar Events".
        """
        hours, minutes = (
            _format_list(self.hours, count=24),
            _format_list(self.minutes, count=60),
        )
        zone = f" {self.timezone}" if self.timezone else ""
        clock = f"{hours}:{minutes}:00{zone}"
        months, days = (
            _format_list(self.months, count=12),
            _format_list(self.days, count=31),
        )
        weekdays = _format_list(
            self.weekdays, count=7, format_value=_WEEKDAYS.__getitem__
        )
        weekdays = "" if weekdays == "*" else f"{weekdays} "
        if self.is_one_day_enough:
            return [f"*-{months}-{days} {clock}", f"{weekdays}*-{months}-* {clock}"]
        return [f"{weekdays}*-{months}-{days} {clock}"]

    def to_kfp(self) -> str:
        """Returns the cron expression in KFP's format: with seconds, and Sunday as 0.

        Source: github.com/robfig/cron 1.2, which KFP's API server and controller use.
        """
        minute, hour, day, month, weekday = self.expression.split()
        day = _format_kfp_days(day, self.days)
        weekday = _format_kfp_days(weekday, self.weekdays)
        return " ".join(("0", minute, hour, day, month, weekday))

    def _find_next_real_time(
        self, now: datetime.datetime, zone: zoneinfo.ZoneInfo
    ) -> datetime.datetime:
        """Returns the first matching minute after `now`, for a schedule of every hour.

        Args:
          now: a time with a time zone.
          zone: the time zone of the schedule and of the result.
        """
        # cronsim would miss a time when the clocks change by half an hour.
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
    """Parses a cron expression.

    Args:
      cron: the expression's five fields.
      timezone: a name of the IANA database; None: local time.

    Raises:
      ConfigError: the expression is not valid, or cron, systemd and KFP would read it
        in different ways, or the time zone is unknown.
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
            "month, weekday) with no spaces inside a field, such as '0 3 * * *', got "
            f"{cron!r}"
        )
    minutes, hours, days, months, weekdays = (
        _find_values(text, limits, cron=cron) for text, limits in zip(texts, _FIELDS)
    )
    if min(days) > max(calendar.monthrange(_LEAP_YEAR, month)[1] for month in months):
        raise ConfigError(
            "the cron expression must have a day of the month that exists in one of "
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
    """Returns the values that a field matches, with 0 for Sunday.

    Args:
      text: the field's text.
      limits: the field's name and range.
      cron: the whole expression, for messages.

    Raises:
      ConfigError: the text is not valid.
    """
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
    """Returns the values that one item of a field's list matches.

    The result is empty if cronsim refuses the item.
    """
    try:
        items = limits.field.parse(part.upper())
    except CronSimError:
        return set()
    values = {item for item in items if isinstance(item, int)}
    return {day % 7 for day in values} if limits.field is Field.DOW else values


def _check_step(match: re.Match[str], limits: _FieldLimits, *, cron: str) -> None:
    """Raises ConfigError for a step so large that only the first value matches."""
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
    """Raises ConfigError for a falling range, such as fri-mon.

    The message has the list to write instead, such as fri-sat,sun-mon.
    """
    first, last = match["first"].lower(), match["last"].lower()
    is_falling = (
        _parse_part(first, limits)
        and _parse_part(last, limits)
        and not _parse_part(match[0], limits)
    )
    if not is_falling:
        return
    # For weekdays the range is 0-6, because 0-7 has Sunday twice.
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
    # ZoneInfo() also accepts right/UTC, whose clock counts leap seconds.
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
    """Returns a day field with a star only at its start, and otherwise as a list.

    The reason is the rule by which one of the two day fields is enough. In cron, the
    rule depends on a star at the start of a field; in KFP, on a star anywhere in it.

    Args:
      text: the field's text.
      values: the values that the field matches.
    """
    first, comma, _ = text.partition(",")
    if not first.startswith("*"):
        return _format_list(values, format_value=str)
    return f"{first},{_format_list(values, format_value=str)}" if comma else text


def _format_list(
    values: Collection[int],
    *,
    count: int | None = None,
    format_value: Callable[[int], str] = "{:02}".format,
) -> str:
    """Returns values as a cron list, separated by commas.

    Args:
      values: the values, in order.
      count: the number of all possible values; the result for all of them is a star.
        None: the result is always a list.
      format_value: returns the text of a value.
    """
    return "*" if len(values) == count else ",".join(map(format_value, values))
