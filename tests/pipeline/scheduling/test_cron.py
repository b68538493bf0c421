"""Cron schedules. Expected times are by calendar: 23 November 2026 is a Monday."""

import datetime
import os
import re
import shutil
import subprocess
import sys
import zoneinfo

import pytest

from pipeline.config.loading import ConfigError
from pipeline.scheduling.cron import parse_cron

UTC = datetime.timezone.utc
MINUTE = datetime.timedelta(minutes=1)
FIVE_MINUTES = 5 * MINUTE

# The next times, in UTC, after Monday, 23 November 2026, 10:00 UTC.
TIMES = [
    ("0 3 * * *", None, ["2026-11-24 03:00", "2026-11-25 03:00"]),
    ("0 3 * * *", "Europe/Berlin", ["2026-11-24 02:00", "2026-11-25 02:00"]),
    ("0 3 * * *", "Asia/Kolkata", ["2026-11-23 21:30", "2026-11-24 21:30"]),
    ("0 3 * * 1", None, ["2026-11-30 03:00", "2026-12-07 03:00"]),
    ("0 3 * * 0", None, ["2026-11-29 03:00", "2026-12-06 03:00"]),
    ("0 3 * * 7", None, ["2026-11-29 03:00", "2026-12-06 03:00"]),
    ("0 3 * * SUN", None, ["2026-11-29 03:00", "2026-12-06 03:00"]),
    (
        "0 3 * * mon-fri",
        None,
        [
            *("2026-11-24 03:00", "2026-11-25 03:00", "2026-11-26 03:00"),
            *("2026-11-27 03:00", "2026-11-30 03:00"),
        ],
    ),
    ("0 3 * * 6,0", None, ["2026-11-28 03:00", "2026-11-29 03:00", "2026-12-05 03:00"]),
    (
        "0 3 * * 5-7",
        None,
        [
            "2026-11-27 03:00",
            "2026-11-28 03:00",
            "2026-11-29 03:00",
            "2026-12-04 03:00",
        ],
    ),
    (
        "0 3 * * */2",  # Sunday, Tuesday, Thursday, Saturday
        None,
        [
            "2026-11-24 03:00",
            "2026-11-26 03:00",
            "2026-11-28 03:00",
            "2026-11-29 03:00",
        ],
    ),
    (
        "*/20 9-17/4 * * *",
        None,
        [
            "2026-11-23 13:00",
            "2026-11-23 13:20",
            "2026-11-23 13:40",
            "2026-11-23 17:00",
        ],
    ),
    (
        "5,50 * * * *",
        None,
        ["2026-11-23 10:05", "2026-11-23 10:50", "2026-11-23 11:05"],
    ),
    ("0 0 1 jan,JUL *", None, ["2027-01-01 00:00", "2027-07-01 00:00"]),
    ("0 0 31 * *", None, ["2026-12-31 00:00", "2027-01-31 00:00", "2027-03-31 00:00"]),
    ("0 0 29 2 *", None, ["2028-02-29 00:00", "2032-02-29 00:00"]),
    (
        "0 3 13 * 5",  # the 13th of each month, and every Friday
        None,
        [
            "2026-11-27 03:00",
            "2026-12-04 03:00",
            "2026-12-11 03:00",
            "2026-12-13 03:00",
        ],
    ),
    ("0 3 13 * 0-6", None, ["2026-11-24 03:00", "2026-11-25 03:00"]),
    # A day field that begins with a star must match too: Mondays on odd days.
    ("0 3 */2 * 1", None, ["2026-12-07 03:00", "2026-12-21 03:00", "2027-01-11 03:00"]),
    # This field does not begin with a star, so one matching field is enough: every day.
    ("0 3 5,* * 1", None, ["2026-11-24 03:00", "2026-11-25 03:00"]),
    ("0 3 * * */2,7", None, ["2026-11-24 03:00", "2026-11-26 03:00"]),
    (
        "*/45 22 * JaN-Feb Fri",
        None,
        ["2027-01-01 22:00", "2027-01-01 22:45", "2027-01-08 22:00"],
    ),
]


def following(expression, timezone, start, count):
    """Returns the next `count` times of a schedule, in UTC."""
    schedule = parse_cron(expression, timezone)
    time = datetime.datetime.fromisoformat(f"{start}+00:00")
    times = []
    for _ in range(count):
        time = schedule.find_next_time(time)
        times.append(f"{time.astimezone(UTC):%Y-%m-%d %H:%M}")
    return times


@pytest.mark.parametrize(("expression", "timezone", "expected"), TIMES)
def test_a_schedule_has_the_times_of_the_calendar(expression, timezone, expected):
    times = following(
        expression, timezone or "UTC", "2026-11-23 10:00", count=len(expected)
    )
    assert times == expected


def systemd_times(events, start, count):
    """Returns the next `count` times of calendar events by systemd, in UTC."""
    times = set()
    for event in events:
        result = subprocess.run(
            [
                *("systemd-analyze", "calendar", f"--iterations={count}"),
                *(f"--base-time={start}:00 UTC", event),
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TZ": "UTC"},
        )
        times |= set(re.findall(r": \w{3} (\S+ \d\d:\d\d):00 UTC", result.stdout))
    return sorted(times)[:count]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize(("expression", "timezone", "expected"), TIMES)
def test_systemd_has_the_same_times(expression, timezone, expected):
    events = parse_cron(expression, timezone).to_systemd_events()
    assert systemd_times(events, "2026-11-23 10:00", len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "timezone", "events"),
    [
        ("0 3 * * *", None, ["*-*-* 03:00:00"]),
        ("0 3 * * 7", "UTC", ["Sun *-*-* 03:00:00 UTC"]),
        ("*/30 1-3 1 6 *", None, ["*-06-01 01,02,03:00,30:00"]),
        (
            "0 3 1,15 * mon",
            "Europe/Berlin",
            ["*-*-01,15 03:00:00 Europe/Berlin", "Mon *-*-* 03:00:00 Europe/Berlin"],
        ),
        ("* * * * *", None, ["*-*-* *:*:00"]),
    ],
)
def test_on_calendar(expression, timezone, events):
    assert parse_cron(expression, timezone).to_systemd_events() == events


# From tzdata, by zdump: on these nights the clocks change from 24:00 to 1:00.
NO_MIDNIGHT = [
    ("America/Santiago", "2026-09-05", ["2026-09-06 04:00", "2026-09-07 03:00"]),
    ("Africa/Cairo", "2026-04-23", ["2026-04-23 22:00", "2026-04-24 21:00"]),
    ("America/Havana", "2026-03-07", ["2026-03-08 05:00", "2026-03-09 04:00"]),
    ("Asia/Beirut", "2026-03-28", ["2026-03-28 22:00", "2026-03-29 21:00"]),
]


@pytest.mark.parametrize(("zone", "day", "expected"), NO_MIDNIGHT)
def test_a_midnight_that_does_not_exist_loses_no_day(zone, day, expected):
    assert following("0 0 * * *", zone, f"{day} 12:00", 2) == expected
    # All times in the skipped hour occur once, at the same minute.
    assert following("*/20 0 * * *", zone, f"{day} 12:00", 2) == expected
    assert following("0 0,1 * * *", zone, f"{day} 12:00", 2) == expected
    weekday = (datetime.date.fromisoformat(day).isoweekday() + 1) % 7
    weekly = following(f"30 0 * * {weekday}", zone, f"{day} 12:00", 1)
    assert weekly == expected[:1]


@pytest.mark.parametrize(
    ("zone", "expression", "day", "expected"),
    [
        # The clocks change from 24:00 to 23:00, in Havana from 1:00 to 0:00, in Berlin
        # from 3:00 to 2:00.
        (
            *("America/Santiago", "30 23 * * *", "2026-04-04"),
            ["2026-04-05 02:30", "2026-04-06 03:30"],
        ),
        (
            *("Africa/Cairo", "30 23 * * *", "2026-10-29"),
            ["2026-10-29 20:30", "2026-10-30 21:30"],
        ),
        (
            # Versions of the time zone database differ about the autumn of 2026.
            *("America/Havana", "30 0 * * *", "2025-11-01"),
            ["2025-11-02 04:30", "2025-11-03 05:30"],
        ),
        (
            *("Asia/Beirut", "30 23 * * *", "2026-10-24"),
            ["2026-10-24 20:30", "2026-10-25 21:30"],
        ),
        (
            *("Europe/Berlin", "30 2 * * *", "2026-10-24"),
            ["2026-10-25 00:30", "2026-10-26 01:30"],
        ),
    ],
)
def test_a_time_that_comes_twice_runs_once(zone, expression, day, expected):
    assert following(expression, zone, f"{day} 12:00", 2) == expected
    # The result is the same after a start in the repeated hour: its minutes 10 and 40.
    first = datetime.datetime.fromisoformat(expected[0])
    for minutes in (40, 70):
        start = first + minutes * MINUTE
        assert following(expression, zone, f"{start:%Y-%m-%d %H:%M}", 1) == expected[1:]


@pytest.mark.parametrize(
    ("zone", "start"),
    [
        *((zone, expected[0]) for zone, _, expected in NO_MIDNIGHT),
        ("America/Santiago", "2026-04-05 03:00"),
        ("Africa/Cairo", "2026-10-29 21:00"),
        ("America/Havana", "2025-11-02 05:00"),
        ("Asia/Beirut", "2026-10-24 21:00"),
        ("Europe/Berlin", "2026-03-29 01:00"),
        ("Europe/Berlin", "2026-10-25 01:00"),
        ("Australia/Lord_Howe", "2026-04-04 15:00"),
        ("Australia/Lord_Howe", "2026-10-03 15:30"),
    ],
)
def test_every_quarter_is_one_of_real_time(zone, start):
    """The clocks change at `start`."""
    change = datetime.datetime.fromisoformat(start)
    times = [change + 15 * number * MINUTE for number in range(-7, 9)]
    before = f"{times[0] - MINUTE:%Y-%m-%d %H:%M}"
    expected = [f"{time:%Y-%m-%d %H:%M}" for time in times]
    assert following("*/15 * * * *", zone, before, len(times)) == expected


def test_a_skipped_time_runs_when_the_clocks_have_changed():
    # Berlin skips 2:30 of 29 March: the time becomes 3:00 after the change.
    times = following("30 2 * * *", "Europe/Berlin", "2026-03-28 12:00", 2)
    assert times == ["2026-03-29 01:00", "2026-03-30 00:30"]


def test_the_next_time_exists_on_the_clock():
    schedule = parse_cron("0 0 * * *", "America/Santiago")
    time = schedule.find_next_time(datetime.datetime(2026, 9, 5, 12, tzinfo=UTC))
    assert f"{time:%Y-%m-%d %H:%M %Z}" == "2026-09-06 01:00 -03"


def list_clock_of_2026(zone):
    """Returns every fifth minute of the year with its local time.

    The third value has the local times that the clocks skipped just before. A repeated
    local time has a fold of 1 at its second occurrence.
    """
    clock = []
    time = datetime.datetime(2026, 1, 1, tzinfo=UTC)
    info = zoneinfo.ZoneInfo(zone)
    previous = (time - FIVE_MINUTES).astimezone(info).replace(tzinfo=None)
    while time.year == 2026:
        local = time.astimezone(info).replace(tzinfo=None)
        skipped = []
        while previous + FIVE_MINUTES < local:
            previous += FIVE_MINUTES
            skipped.append(previous)
        clock.append((time, local, skipped))
        previous = local
        time += FIVE_MINUTES
    return clock


def weekday_of(date):
    return date.isoweekday() % 7


# Expressions, with the minutes, hours and dates that they match.
MATCHED = [
    ("0 0 * * *", {0}, {0}, lambda date: True),
    ("*/20 0,23 * * *", {0, 20, 40}, {0, 23}, lambda date: True),
    ("45 */2 * * *", {45}, set(range(0, 24, 2)), lambda date: True),
    (
        *("5 0-3 1,29 * fri-sat", {5}, {0, 1, 2, 3}),
        lambda date: date.day in (1, 29) or weekday_of(date) in (5, 6),
    ),
    (
        *("30 * */2 3-11 0", {30}, set(range(24))),
        lambda date: (
            date.day % 2 == 1 and 3 <= date.month <= 11 and weekday_of(date) == 0
        ),
    ),
    (
        *("0,50 0-23 * 4,10,9 7", {0, 50}, set(range(24))),
        lambda date: date.month in (4, 9, 10) and weekday_of(date) == 0,
    ),
]


@pytest.mark.parametrize(
    "zone",
    [
        *("UTC", "America/Santiago", "Africa/Cairo", "America/Havana", "Asia/Beirut"),
        "Australia/Lord_Howe",  # this zone changes by half an hour
    ],
)
def test_a_year_is_as_by_brute_force(zone):
    clock = list_clock_of_2026(zone)
    for expression, minutes, hours, is_date_right in MATCHED:

        def matches(local, minutes=minutes, hours=hours, is_date_right=is_date_right):
            return (
                local.minute in minutes and local.hour in hours and is_date_right(local)
            )

        expected = [
            time
            for time, local, skipped in clock
            if (matches(local) and (len(hours) == 24 or not local.fold))
            or (len(hours) < 24 and any(map(matches, skipped)))
        ]
        schedule = parse_cron(expression, zone)
        found = []
        time = datetime.datetime(2025, 12, 31, 23, 59, 30, tzinfo=UTC)
        while (time := schedule.find_next_time(time).astimezone(UTC)).year == 2026:
            found.append(time)
        assert len(expected) > 10
        assert found == expected, expression


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize(("zone", "day", "expected"), NO_MIDNIGHT)
def test_systemd_loses_the_day_as_the_docs_say(zone, day, expected):
    (event,) = parse_cron("0 0 * * *", zone).to_systemd_events()
    assert systemd_times([event], f"{day} 12:00", 1) == expected[1:]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 3 * *", "must be five fields (minute, hour, day of the month, month, wee"),
        ("@daily", "such as '0 3 * * *', got '@daily'"),
        ("", "got ''"),
        ("60 3 * * *", "the minute of a cron expression must be in 0-59: a value, a r"),
        ("0 24 * * *", "the hour of a cron expression must be in 0-23: "),
        ("0 3 0 * *", "the day of the month of a cron expression must be in 1-31: "),
        ("0 3 * 13 *", "the month of a cron expression must be in 1-12 or jan-dec: "),
        ("0 3 * * 8", "the weekday of a cron expression must be in 0-7 or sun-sat: "),
        ("0 3 * * fri-sun", "got 'fri-sun' in '0 3 * * fri-sun'"),
        ("0 3 * * jan", "got 'jan' in '0 3 * * jan'"),
        (
            "0 5-3 * * *",
            "the hour of a cron expression must have ranges that rise, got",
        ),
        ("0 5-3 * * *", "got '5-3' in '0 5-3 * * *': write '5-23,0-3'"),
        ("1,50-10 * * * *", "got '50-10' in '1,50-10 * * * *': write '50-59,0-10'"),
        (
            "0 0 * * FRI-MON",
            "got 'FRI-MON' in '0 0 * * FRI-MON': write 'fri-sat,sun-mo",
        ),
        ("0 0 * * mon-sun", "write 'mon-sat,sun'"),
        ("0 0 * * sat-2", "write 'sat,0-2'"),
        ("0 0 * * 5-0", "write '5-6,0'"),
        ("0 0 * nov-feb *", "write 'nov-dec,jan-feb'"),
        ("0 0 25-5 * *", "write '25-31,1-5'"),
        ("60-5 * * * *", "with a step (*/n or a-b/n) of at least 1; got '60-5' in"),
        ("50-10/5 * * * *", "a rising range (a-b)"),
        ("*/0 * * * *", "with a step (*/n or a-b/n) of at least 1; got '*/0' in"),
        ("0-59/0 * * * *", "with a step (*/n or a-b/n) of at least 1; got '0-59/0' in"),
        ("5/10 * * * *", "got '5/10' in '5/10 * * * *'"),
        (
            "*/90 * * * *",
            "the minute of a cron expression must have a step below the number of "
            "values in its range, which is 60 for '*', got '*/90' in '*/90 * * * *': "
            "the first value alone would match",
        ),
        ("*/60 * * * *", "which is 60 for '*', got '*/60' in '*/60 * * * *': the"),
        ("0-59/90 * * * *", "which is 60 for '0-59', got '0-59/90' in"),
        (
            "0 */25 * * *",
            "the hour of a cron expression must have a step below the numb",
        ),
        ("0 */24 * * *", "which is 24 for '*', got '*/24' in"),
        ("0 0 */31 * *", "which is 31 for '*', got '*/31' in"),
        ("0 0 * */12 *", "which is 12 for '*', got '*/12' in"),
        ("0 0 * * */7", "which is 7 for '*', got '*/7' in"),
        ("0 0 * * 0-7/7", "which is 7 for '0-7', got '0-7/7' in"),
        ("5-5/10 * * * *", "which is 1 for '5-5', got '5-5/10' in"),
        ("5-5/1 * * * *", "which is 1 for '5-5', got '5-5/1' in"),
        ("1,1-5/9 * * * *", "got '1-5/9' in '1,1-5/9 * * * *'"),
        ("-5 * * * *", "got '-5' in"),
        ("1,,2 * * * *", "got '1,,2' in"),
        ("0 3 L * *", "got 'L' in"),
        ("0 3 l * *", "got 'l' in"),
        ("0 3 LW * *", "got 'LW' in"),
        ("0 3 15W * *", "got '15W' in"),
        ("0 3 * * 5L", "got '5L' in"),
        ("0 3 * * FRI#2", "got 'FRI#2' in"),
        ("0 3 ? * *", "got '?' in"),
        ("H 3 * * *", "got 'H' in"),
        ("0 3 1~5 * *", "got '1~5' in"),
        ("*-5 * * * *", "got '*-5' in"),
        ("1-2-3 * * * *", "got '1-2-3' in"),
        ("*/2/3 * * * *", "got '*/2/3' in"),
        ("** * * * *", "got '**' in"),
        ("+5 * * * *", "got '+5' in"),
        ("1, * * * *", "got '1,' in"),
        # An Arabic zero, a full-width zero, a long s and a Kelvin sign.
        ("\u0660 3 * * *", "got '\u0660' in"),
        ("\uff10 3 * * *", "got '\uff10' in"),
        ("0 3 * * \u017fun", "got '\u017fun' in"),
        (
            "0 3 * o\u212at *",
            "the month of a cron expression must be in 1-12 or jan-dec",
        ),
        ("0 3 * * monday", "got 'monday' in"),
        ("0 3 * * *\x00", "got '*\\x00' in"),
        (
            "0 3 * * * *",
            "with no spaces inside a field, such as '0 3 * * *', got '0 3 * ",
        ),
        ("0 0 3 * * * 2026", "got '0 0 3 * * * 2026'"),
        (
            "0, 30 3 * * *",
            "with no spaces inside a field, such as '0 3 * * *', got '0, ",
        ),
        (
            f"{'1,' * 200}1 * * * *",
            "the cron expression must have at most 400 characters, got 409: "
            "'1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,'...",
        ),
        (f"{'9' * 380} * * * *", "the minute of a cron expression must be in 0-59"),
        ("0 0 31 2 *", "must have a day of the month that exists in one of its months"),
        ("0 0 30 2 *", "must have a day of the month that exists in one of its months"),
        ("0 0 31 4,6,9,11 1", "months, got '0 0 31 4,6,9,11 1'"),
    ],
)
def test_a_bad_expression_is_named_with_what_was_expected(expression, message):
    with pytest.raises(ConfigError) as caught:
        parse_cron(expression, None)
    assert message in str(caught.value)


def test_all_values_of_all_fields_are_not_too_long():
    lists = [
        *(range(60), range(24), range(1, 32), range(1, 13), range(7)),
    ]
    expression = " ".join(",".join(map(str, values)) for values in lists)
    times = following(expression, "UTC", "2026-11-23 10:00", 2)
    assert times == ["2026-11-23 10:01", "2026-11-23 10:02"]


@pytest.mark.parametrize(
    ("timezone", "hint"),
    [
        ("", ""),
        ("/etc/hosts", ""),
        ("Moon/Base", ""),
        ("U" * 300, ""),
        ("UTC\x00", ", did you mean UTC?"),
        ("UTC\nx", ", did you mean UTC?"),
        ("../UTC", ", did you mean UTC?"),
        ("utc", ", did you mean UTC?"),
        ("europe/berlin", ", did you mean Europe/Berlin?"),
        ("Europe/Berln", ", did you mean Europe/Berlin?"),
        (" Africa/Cairo ", ", did you mean Africa/Cairo?"),
        # Files of the database that are not time zones, or that count leap seconds.
        ("tzdata.zi", ""),
        ("right/Asia/Beirut", ", did you mean Asia/Beirut?"),
    ],
)
def test_an_unknown_time_zone_is_named(timezone, hint):
    with pytest.raises(ConfigError) as caught:
        parse_cron("0 3 * * *", timezone)
    assert str(caught.value) == (
        "the time zone must be a name of the IANA database, such as Europe/Berlin or "
        f"UTC, got {timezone!r}{hint}"
    )


def test_an_unknown_local_time_zone_is_named():
    # In a process of its own, because Python reads the local time zone once.
    result = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from pipeline.scheduling.cron import parse_cron\n"
            "parse_cron('0 3 * * *', None).find_zone()",
        ],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TZ": "Moon/Base"},
    )
    assert re.search(
        r"ConfigError: the local time zone must be .*Moon/Base.*: set TZ, or name",
        result.stderr,
    )


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("0 3 * * *", "0 0 3 * * *"),
        (" */15  0-6,22 1,15 jan-mar * ", "0 */15 0-6,22 1,15 jan-mar *"),
        ("5 4 * * 0", "0 5 4 * * 0"),
        ("5 4 * * 7", "0 5 4 * * 0"),
        ("5 4 * * SUN", "0 5 4 * * 0"),
        ("5 4 * * mon-fri", "0 5 4 * * 1,2,3,4,5"),
        ("5 4 * * 5-7", "0 5 4 * * 0,5,6"),
        ("5 4 * * 1-7/2", "0 5 4 * * 0,1,3,5"),
        # Every day, but without a star; otherwise it would be the 13th alone.
        ("5 4 13 * 0-6", "0 5 4 13 * 0,1,2,3,4,5,6"),
        ("5 4 13 * */2", "0 5 4 13 * */2"),
        ("5 4 13 * */2,7", "0 5 4 13 * */2,0,2,4,6"),
        ("5 4 30,*/10 * 1", "0 5 4 1,11,21,30,31 * 1"),
        ("0 0 13 * 5", "0 0 0 13 * 5"),
    ],
)
def test_kfp_gets_seconds_first_and_no_sunday_of_7(expression, expected):
    assert parse_cron(expression, None).to_kfp() == expected


KFP_NAMES = {"sun": 0, "mon": 1, "fri": 5, "jan": 1, "feb": 2}


def kfp_values(field, low, high):
    """Returns a field's values as robfig/cron 1.2 reads it, and whether it has a star.

    Source: getField() and getRange() in its parser.go.
    """
    values, has_star = set(), False
    for part in filter(None, field.split(",")):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        if first in "*?":
            has_star, start, end = True, low, high
        else:
            start, end = (
                KFP_NAMES[text.lower()] if text.isalpha() else int(text)
                for text in (first, last or first)
            )
            end = high if step and not last else end
        assert low <= start <= end <= high, f"KFP refuses {part}"
        values |= set(range(start, end + 1, int(step or 1)))
    return values, has_star


@pytest.mark.parametrize(
    "expression",
    [
        *("0 3 * * *", "0 3 13 * 5", "0 3 */2 * 1", "0 3 5,* * 1", "0 3 13 * */2,7"),
        *("0 3 1 * *,5-7", "0 3 *,1 * 7", "0 3 1,*/10 * sun", "0 3 13 * 0-7"),
        *("0 3 1-10/3 1,FEB mon-5", "0 3 * jan-feb 5-7", "0 3 */9,2 * 1-7/3"),
    ],
)
def test_kfp_runs_on_the_days_of_the_schedule(expression):
    schedule = parse_cron(expression, "UTC")
    seconds, minutes, hours, days, months, weekdays = schedule.to_kfp().split()
    assert (seconds, minutes, hours) == ("0", "0", "3")
    day_values, has_day_star = kfp_values(days, 1, 31)
    month_values, _ = kfp_values(months, 1, 12)
    weekday_values, has_weekday_star = kfp_values(weekdays, 0, 6)
    decide = all if has_day_star or has_weekday_star else any
    first = datetime.datetime(2026, 1, 1, 3, tzinfo=UTC)
    expected = [
        date
        for number in range(365)
        if (date := first + datetime.timedelta(days=number)).month in month_values
        and decide([date.day in day_values, weekday_of(date) in weekday_values])
    ]
    found, time = [], first - MINUTE
    while (time := schedule.find_next_time(time)).year == 2026:
        found.append(time)
    assert found == expected
