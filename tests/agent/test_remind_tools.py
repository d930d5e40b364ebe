"""The tools for reminders: what models get right, and what they are told when they do not."""

import pytest

from agent.agenda import Agenda
from agent.protocol import ChatRequest, Person, Role
from agent.reminders import Reminders, When
from agent.store import Store
from agent.toolbox import ToolFailed
from tests.agent.conftest import answer
from tests.fakes.libertai_sim import Script, ToolCall

NOW = 1_800_000_000.0  # Friday, 2027-01-15 08:00 UTC
BERLIN = "Europe/Berlin"


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path / "agent")
    yield opened
    opened.close()


@pytest.fixture
def reminders(store, clock):
    """Of the owner in chat c1, or of somebody else: `reminders(Role.VISITOR, "c2")`."""
    clock.now = NOW
    schedule = Agenda.of(store, heartbeat_minutes=0).schedule

    def of(role=Role.OWNER, chat_id="c1"):
        request = ChatRequest(chat_id=chat_id, message="hi", role=role, user=Person(id="7", name="Olga"))
        return Reminders(store, schedule, request, clock)

    return of


def when(minutes=0, at="", cron="", zone=""):
    return When(minutes, at, cron, zone)


def add(reminders, what="Soup", *, work=False, **time):
    return reminders.add(what, when(**time), does_work=work)


def refusal(reminders, what="Soup", *, work=False, **time):
    with pytest.raises(ToolFailed) as caught:
        add(reminders, what, work=work, **time)
    assert reminders.words() == "There are no reminders in this chat.", "nothing was planned"
    return str(caught.value)


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ({"minutes": 90}, "Friday, 2027-01-15 09:30 (UTC)."),
        ({"minutes": 0.5, "zone": BERLIN}, "Friday, 2027-01-15 09:00 (Europe/Berlin)."),
        ({"at": "2027-01-16T08:00", "zone": BERLIN}, "Saturday, 2027-01-16 08:00 (Europe/Berlin)."),
        ({"at": "2027-01-16T08:00+01:00"}, "Saturday, 2027-01-16 07:00 (UTC)."),
        ({"cron": "0 8 * * 1-5", "zone": BERLIN}, "Monday, 2027-01-18 08:00 (Europe/Berlin), then again and again by"),
        ({"cron": "*/5 * * * *", "zone": "UTC"}, "Friday, 2027-01-15 08:05 (UTC), then again and again by"),
    ],
)
def test_a_time_is_confirmed_in_the_words_of_its_zone(reminders, time, words):
    assert add(reminders(), **time).startswith(f"Reminder 1 is set for {words}")


@pytest.mark.parametrize(
    ("time", "words"),
    [
        ({}, "exactly one of minutes"),
        ({"minutes": 5, "cron": "0 8 * * *"}, "exactly one of minutes"),
        ({"minutes": -5}, "in the past: it is Friday, 2027-01-15 08:00 (UTC) now"),
        ({"minutes": float("nan")}, "in the past"),
        ({"minutes": float("inf")}, "five years"),
        ({"minutes": 60 * 24 * 366 * 5}, "five years"),
        ({"at": "2027-01-15T08:59", "zone": BERLIN}, "it is Friday, 2027-01-15 09:00 (Europe/Berlin) now"),
        ({"at": "2033-01-16T08:00", "zone": BERLIN}, "five years"),
        ({"at": "2027-01-16T08:00"}, "In which time zone?"),
        ({"cron": "0 8 * * *"}, "In which time zone?"),
        ({"at": "tomorrow", "zone": BERLIN}, "Write it as"),
        ({"cron": "0 8 * * *", "zone": "Berlin"}, "IANA name such as Europe/Berlin"),
        ({"cron": "daily", "zone": BERLIN}, "five fields"),
        ({"cron": "*/4 * * * *", "zone": BERLIN}, "at most every 5 minutes"),
    ],
)
def test_a_time_that_cannot_be_is_refused_with_what_to_do(reminders, time, words):
    assert words in refusal(reminders(), **time)


@pytest.mark.parametrize("what", ["", "  ", "x" * 2_001])
def test_a_reminder_has_words(reminders, what):
    assert "1 to 2000 characters" in refusal(reminders(), what, minutes=5)


def test_visitors_work_comes_at_most_hourly(reminders):
    visitor = reminders(Role.VISITOR)
    assert "at most every 60 minutes" in refusal(visitor, work=True, cron="*/30 * * * *", zone="UTC")
    add(visitor, work=True, cron="0 * * * *", zone="UTC")
    add(visitor, cron="*/30 * * * *", zone="UTC")
    add(reminders(Role.OWNER), work=True, cron="*/30 * * * *", zone="UTC")


@pytest.mark.parametrize(("role", "most"), [(Role.OWNER, 50), (Role.VISITOR, 10)])
def test_there_is_room_for_so_many_in_a_chat(reminders, role, most):
    for _ in range(most):
        add(reminders(role), minutes=5)

    with pytest.raises(ToolFailed, match=f"There are {most} reminders"):
        add(reminders(role), minutes=5)

    reminders(role).cancel(1)
    assert add(reminders(role), minutes=5).startswith(f"Reminder {most + 1} "), "numbers are not given out twice"
    add(reminders(role, "c2"), minutes=5)


def test_they_are_listed_by_time_in_their_own_chat(reminders):
    add(reminders(), "Later", minutes=60)
    add(reminders(), "Report", cron="0 8 * * *", zone=BERLIN, work=True)
    add(reminders(), "Soon", minutes=5)
    add(reminders(chat_id="c2"), "Elsewhere", minutes=5)

    assert reminders().words().splitlines() == [
        "3. reminder, Friday, 2027-01-15 08:05 (UTC): Soon",
        "1. reminder, Friday, 2027-01-15 09:00 (UTC): Later",
        "2. work, Saturday, 2027-01-16 08:00 (Europe/Berlin), then again and again by cron 0 8 * * *: Report",
    ]


def test_only_ones_own_chat_is_cancelled(reminders):
    add(reminders(chat_id="c2"), "Elsewhere", minutes=5)

    with pytest.raises(ToolFailed, match="There is no reminder 1 in this chat"):
        reminders().cancel(1)

    reminders(chat_id="c2").cancel(1)
    with pytest.raises(ToolFailed, match="There is no reminder 1"):
        reminders(chat_id="c2").cancel(1)


def test_a_visitor_of_a_group_neither_sees_nor_cancels_the_owners(reminders):
    add(reminders(), "The owner's", minutes=5)
    add(reminders(Role.VISITOR), "A visitor's", minutes=5)

    assert "The owner's" not in reminders(Role.VISITOR).words()
    assert len(reminders().words().splitlines()) == 2
    with pytest.raises(ToolFailed):
        reminders(Role.VISITOR).cancel(1)


@pytest.mark.parametrize("role", list(Role))
async def test_a_model_sets_lists_and_cancels_one_in_a_turn_which_says_when_it_is_due(agents, libertai, role):
    client = await agents(clock=lambda: NOW)
    await libertai.script(
        Script(
            calls=[
                ToolCall(name="remind", arguments={"what": "Soup", "minutes": "20"}),
                ToolCall(name="remind", arguments={"what": "Bread", "at": "2027-01-15T12:00", "zone": BERLIN}),
                ToolCall(name="cancel_reminder", arguments={"number": 1}),
            ]
        ),
        Script(calls=[ToolCall(name="reminders", arguments={})]),
        Script(text="Done."),
    )

    events = await client.events("Remind me", role=role)

    assert answer(events) == "Done."
    assert events[-1].next_due == NOW + 3 * 3600
    results = [message["content"] for message in (await libertai.calls())[-1].messages if message["role"] == "tool"]
    assert results == [
        "Reminder 1 is set for Friday, 2027-01-15 08:20 (UTC).",
        "Reminder 2 is set for Friday, 2027-01-15 12:00 (Europe/Berlin).",
        "Reminder 1 is cancelled.",
        "2. reminder, Friday, 2027-01-15 12:00 (Europe/Berlin): Bread",
    ]
    assert (await client.http.get("/health")).json()["next_due"] == NOW + 3 * 3600


async def test_a_turn_of_an_agent_without_reminders_ends_without_a_time(client, libertai):
    assert (await client.events())[-1].next_due is None
