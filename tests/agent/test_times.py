"""When something falls due, also where clocks are put forward and back. Berlin does so at 2026-10-25 and 2027-03-28."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from agent.times import BadTime, find_zone, next_time, read_moment, shortest_gap, spoken

BERLIN = "Europe/Berlin"


def utc(year, month, day, hour=0, minute=0):
    return datetime(year, month, day, hour, minute, tzinfo=UTC).timestamp()


def berlin(year, month, day, hour=0, minute=0):
    return datetime(year, month, day, hour, minute, tzinfo=ZoneInfo(BERLIN)).timestamp()


def times(cron, after, count):
    found = []
    for _ in range(count):
        after = next_time(cron, BERLIN, after)
        found.append(datetime.fromtimestamp(after, UTC).strftime("%d %H:%M"))
    return found


def test_a_cron_goes_by_the_clock_of_its_zone_in_winter_and_summer():
    assert next_time("0 8 * * *", BERLIN, utc(2027, 1, 10)) == utc(2027, 1, 10, 7)
    assert next_time("0 8 * * *", BERLIN, utc(2027, 7, 10)) == utc(2027, 7, 10, 6)
    assert next_time("0 8 * * 1-5", "Asia/Tokyo", utc(2027, 1, 8)) == utc(2027, 1, 10, 23), "Monday there"


def test_a_cron_in_the_hour_that_is_left_out_comes_right_after_it_once():
    assert times("30 2 * * *", berlin(2027, 3, 27, 12), 2) == ["28 01:00", "29 00:30"]


@pytest.mark.parametrize("start", [berlin(2026, 10, 24, 12), berlin(2026, 10, 25, 1, 59)])
def test_a_cron_in_the_hour_that_comes_twice_comes_once(start):
    assert times("30 2 * * *", start, 2) == ["25 00:30", "26 01:30"]


def test_a_cron_of_every_half_hour_goes_on_through_both():
    assert times("*/30 * * * *", utc(2026, 10, 24, 23, 45), 5) == [
        "25 00:00", "25 00:30", "25 01:00", "25 01:30", "25 02:00",
    ]  # fmt: skip
    assert times("*/30 * * * *", utc(2027, 3, 28, 0, 15), 3) == ["28 00:30", "28 01:00", "28 01:30"]


@pytest.mark.parametrize(
    ("cron", "words"),
    [
        ("* * * *", "five fields"),
        ("* * * * * *", "five fields"),
        ("@daily", "five fields"),
        ("", "five fields"),
        ("61 * * * *", "Bad minute"),
        ("0 8 * * 8", "Bad day-of-week"),
        ("0 0 31 2 *", "Bad day-of-month"),
    ],
)
def test_what_is_no_cron_is_refused_with_an_example(cron, words):
    with pytest.raises(BadTime, match=words) as caught:
        next_time(cron, BERLIN, 0)
    assert "0 8 * * 1-5" in str(caught.value)


@pytest.mark.parametrize(
    ("cron", "seconds"),
    [("* * * * *", 60), ("*/5 * * * *", 300), ("0,58 22,23 * * *", 120), ("0,1 9 1 1 *", 60), ("0 8 * * *", 82_800)],
)
def test_the_shortest_gap_is_found_also_between_hours(cron, seconds):
    assert shortest_gap(cron, BERLIN, utc(2027, 3, 20)) == seconds


def test_a_date_is_of_the_zone_unless_it_says_otherwise():
    assert read_moment("2027-07-10T08:00", BERLIN) == utc(2027, 7, 10, 6)
    assert read_moment("2027-07-10 08:00", BERLIN) == utc(2027, 7, 10, 6)
    assert read_moment("2027-07-10T08:00Z", BERLIN) == utc(2027, 7, 10, 8)
    assert read_moment("2027-07-10T08:00+09:00", "") == utc(2027, 7, 9, 23)


def test_a_date_that_does_not_exist_is_an_hour_later_and_one_that_comes_twice_the_first():
    assert read_moment("2027-03-28T02:30", BERLIN) == utc(2027, 3, 28, 1, 30)
    assert read_moment("2026-10-25T02:30", BERLIN) == utc(2026, 10, 25, 0, 30)


@pytest.mark.parametrize(
    "at",
    ["tomorrow", "in 20 minutes", "2027-13-01T08:00", "8:00", "2027-07-10", "0001-01-01T00:00", "9999-12-31T23:59"],
)
def test_what_is_no_date_and_time_is_refused_with_an_example(at):
    with pytest.raises(BadTime, match="Write it as 20"):
        read_moment(at, BERLIN)


@pytest.mark.parametrize("name", ["Berlin", "GMT+25", "../../etc/passwd", "/etc/passwd", "Europe", "x" * 300, "a\0b"])
def test_what_is_no_zone_is_refused_with_examples(name):
    with pytest.raises(BadTime, match="Europe/Berlin"):
        find_zone(name)


def test_a_missing_zone_is_asked_for():
    with pytest.raises(BadTime, match="ask them"):
        read_moment("2027-07-10T08:00", "")


def test_a_moment_is_spoken_of_in_its_zone():
    assert spoken(utc(2027, 7, 10, 6), BERLIN) == "Saturday, 2027-07-10 08:00 (Europe/Berlin)"
