"""Expected times are from a calendar: 23 November 2026 is a Monday."""

import datetime
import os
import re
import shutil
import subprocess
import sys

import pytest

from pipeline.config.loading import ConfigError
from pipeline.scheduling import cron

# From Monday, 23 November 2026, 10:00 UTC: the next times, in UTC.
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
        "0 3 13 * 5",  # the 13th, and every Friday
        None,
        [
            "2026-11-27 03:00",
            "2026-12-04 03:00",
            "2026-12-11 03:00",
            "2026-12-13 03:00",
        ],
    ),
    ("0 3 13 * 0-6", None, ["2026-11-24 03:00", "2026-11-25 03:00"]),
    # A day that begins with a star is not enough: Mondays on odd days.
    ("0 3 */2 * 1", None, ["2026-12-07 03:00", "2026-12-21 03:00", "2027-01-11 03:00"]),
]


def following(expression, timezone, start, count):
    trigger = cron.make_trigger(expression, timezone)
    previous, times = None, []
    now = datetime.datetime.fromisoformat(f"{start}+00:00")
    for _ in range(count):
        previous = now = trigger.get_next_fire_time(previous, now)
        utc = previous.astimezone(datetime.timezone.utc)
        times.append(f"{utc:%Y-%m-%d %H:%M}")
    return times


@pytest.mark.parametrize(("expression", "timezone", "expected"), TIMES)
def test_the_trigger_has_the_times_of_the_calendar(expression, timezone, expected):
    times = following(
        expression, timezone or "UTC", "2026-11-23 10:00", count=len(expected)
    )
    assert times == expected


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd")
@pytest.mark.parametrize(("expression", "timezone", "expected"), TIMES)
def test_systemd_has_the_same_times(expression, timezone, expected):
    times = set()
    for event in cron.to_systemd_events(expression, timezone):
        result = subprocess.run(
            [
                *("systemd-analyze", "calendar", f"--iterations={len(expected)}"),
                *("--base-time=2026-11-23 10:00:00 UTC", event),
            ],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "TZ": "UTC"},
        )
        times |= set(re.findall(r": \w{3} (\S+ \d\d:\d\d):00 UTC", result.stdout))
    assert sorted(times)[: len(expected)] == expected


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
    assert cron.to_systemd_events(expression, timezone) == events


def test_the_nights_of_the_change():
    def berlin(expression, start):
        return following(expression, "Europe/Berlin", start, 2)

    # Summer time ends at 3:00 on 25 October, and 2:30 comes twice.
    twice = ["2026-10-25 00:30", "2026-10-25 01:30"]
    assert berlin("30 2 * * *", "2026-10-24 12:00") == twice
    once = ["2026-10-25 02:00", "2026-10-26 02:00"]
    assert berlin("0 3 * * *", "2026-10-24 12:00") == once
    # It begins at 2:00 on 29 March: 3:30 by the new time.
    late = ["2026-03-29 01:30", "2026-03-30 00:30"]
    assert berlin("30 2 * * *", "2026-03-28 12:00") == late


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
        ("0 5-3 * * *", "a rising range (a-b)"),
        ("*/0 * * * *", "with a step (*/n or a-b/n) of at least 1; got '*/0' in"),
        ("5/10 * * * *", "got '5/10' in '5/10 * * * *'"),
        ("-5 * * * *", "got '-5' in"),
        ("1,,2 * * * *", "got '1,,2' in"),
        ("0 3 L * *", "got 'L' in"),
        ("0 3 ? * *", "got '?' in"),
        ("0 0 30 2 *", "must have a day of the month that there is in one of its mon"),
        ("0 0 31 4,6,9,11 1", "months, got '0 0 31 4,6,9,11 1'"),
    ],
)
def test_a_bad_expression_is_named_with_what_was_expected(expression, message):
    with pytest.raises(ConfigError) as caught:
        cron.check_cron(expression, None)
    assert message in str(caught.value)
    with pytest.raises(ConfigError):
        cron.to_systemd_events(expression, None)


@pytest.mark.parametrize(
    "timezone", ["", "Europe", "../UTC", "/etc/hosts", "UTC\nx", "Moon/Base", "U" * 300]
)
def test_an_unknown_time_zone_is_named(timezone):
    with pytest.raises(ConfigError) as caught:
        cron.check_cron("0 3 * * *", timezone)
    assert str(caught.value) == (
        "the time zone must be a name of the IANA database, such as Europe/Berlin or "
        f"UTC, got {timezone!r}"
    )
    with pytest.raises(ConfigError, match="the time zone must be"):
        cron.to_systemd_events("0 3 * * *", timezone)


def test_an_unknown_local_time_zone_is_named():
    # In a process of its own: the local time zone is looked up once.
    result = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from pipeline.scheduling import cron; cron.check_cron('0 3 * * *', None)",
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
        # Every day, but no star: else it would be on the 13th alone.
        ("5 4 13 * 0-6", "0 5 4 13 * 0,1,2,3,4,5,6"),
        ("5 4 13 * */2", "0 5 4 13 * */2"),
        ("0 0 13 * 5", "0 0 0 13 * 5"),
    ],
)
def test_kfp_gets_seconds_first_and_no_sunday_of_7(expression, expected):
    assert cron.robfig(expression) == expected
