"""What turns cost: counted whatever becomes of them, and summed per chat and day."""

from datetime import UTC, date, datetime, timedelta

import pytest

from agent import usage
from agent.protocol import Done, ErrorKind, Failed, Spendings, Text, Usage
from agent.store import Store
from agent.usage import KEEP_DAYS, THROW_AWAY, Ledger
from tests.agent.conftest import next_of
from tests.fakes.libertai_sim import Script, ToolCall

NOTED = ToolCall(name="remember", arguments={"note": "likes soup"})
SPENT = Usage(prompt_tokens=10, cached_tokens=4, completion_tokens=3, tool_calls=2, milliseconds=50)


async def spendings(client, **query) -> Spendings:
    response = await client.http.get("/usage", params=query)
    assert response.status_code == 200, response.text
    return Spendings.model_validate_json(response.content)


async def test_usage_of_a_turn_is_in_its_last_event_and_in_the_sums_of_its_chat(client, libertai):
    await libertai.script(Script(text="one two", calls=[NOTED]), Script(text="three"))
    first = (await client.events())[-1].usage
    second = (await client.events())[-1].usage
    await client.events(chat_id="c2")
    [mine] = (await spendings(client, chat_id="c1")).days
    assert (mine.turns, mine.tool_calls, mine.day) == (2, 1, datetime.now(UTC).date().isoformat())
    assert mine.prompt_tokens == first.prompt_tokens + second.prompt_tokens > 0
    assert mine.completion_tokens == first.completion_tokens + second.completion_tokens > 0
    assert mine.milliseconds == first.milliseconds + second.milliseconds
    assert [each.chat_id for each in (await spendings(client)).days] == ["c1", "c2"]


async def test_stopped_turn_counts_what_it_spent(client, libertai):
    await libertai.script(Script(text="Let me see.", calls=[NOTED]), Script(text="one two", hold_after=1))
    async with client.stream() as events:
        await next_of(events, Text)
        await libertai.calls(at_least=2)
        await client.http.post("/chat/c1/stop")
        assert isinstance([event async for event in events][-1], Failed)
    [day] = (await spendings(client)).days
    assert (day.turns, day.tool_calls, day.completion_tokens) == (1, 1, 3)
    assert day.prompt_tokens > 0


async def test_failed_turn_counts_what_it_spent_also_for_answers_of_no_use(client, libertai):
    await libertai.script(Script(text=""), Script(text=""))
    [*_, final] = await client.events()
    assert final.kind is ErrorKind.BAD_REPLY
    [day] = (await spendings(client)).days
    assert day.turns == 1
    assert day.prompt_tokens > 0


async def test_turn_that_never_ran_costs_nothing(client, libertai):
    await libertai.script(Script(text="x", hold_after=0))
    async with client.stream("1"), client.stream("2"):
        await libertai.calls(at_least=1)
        await client.http.delete("/chat/c1")
    [day] = (await spendings(client)).days
    assert day.turns == 1


async def test_summary_of_the_older_part_is_counted(agents, libertai):
    client = await agents(agent_context_tokens=2_000)
    await libertai.reply("word " * 999 + "end")
    await client.events("tell me")
    await libertai.script(Script(text="They talked at length."), Script(text="fine"))
    usage = (await client.events("and now?"))[-1].usage
    assert len(await libertai.calls()) == 3
    assert usage.completion_tokens == 4 + 1, "of the summary and of the answer"
    assert sum(day.completion_tokens for day in (await spendings(client)).days) == 1_000 + usage.completion_tokens


async def test_sums_survive_forgetting(client):
    await client.events()
    await client.http.delete("/chat/c1")
    assert [day.turns for day in (await spendings(client)).days] == [1]


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", "2026-1-1x", "0"])
async def test_day_that_is_none_is_refused(client, since):
    response = await client.http.get("/usage", params={"since": since})
    assert (response.status_code, response.json()["kind"]) == (400, "bad_request")
    assert "YYYY-MM-DD" in response.json()["text"]


async def test_usage_is_closed_without_the_secret(client):
    assert (await client.http.get("/usage", headers={"Authorization": ""})).status_code == 401


# The ledger


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


@pytest.fixture
def on_day(monkeypatch):
    """Sets the clock."""

    def set_day(day: date) -> None:
        class Clock(datetime):
            @classmethod
            def now(cls, tz=None):
                return datetime(day.year, day.month, day.day, 12, tzinfo=tz)

        monkeypatch.setattr(usage, "datetime", Clock)

    return set_day


TODAY = date(2026, 3, 31)


def test_days_are_listed_newest_first_and_by_default_of_a_month(store, on_day):
    ledger = Ledger(store)
    for ago in (40, 30, 1, 0, 0):
        on_day(TODAY - timedelta(ago))
        ledger.add("c", SPENT)
    listed = ledger.read().days
    assert [(each.day, each.turns, each.prompt_tokens) for each in listed] == [
        ("2026-03-31", 2, 20),
        ("2026-03-30", 1, 10),
        ("2026-03-01", 1, 10),
    ]
    assert len(ledger.read(TODAY - timedelta(40)).days) == 4
    assert ledger.read(chat_id="other").days == ()


def test_old_days_are_dropped(store, on_day):
    ledger = Ledger(store)
    for ago in (KEEP_DAYS + 1, KEEP_DAYS, 0):
        on_day(TODAY - timedelta(ago))
        ledger.add("c", SPENT)
    assert [each.day for each in ledger.read(date(2000, 1, 1)).days] == ["2026-03-31", "2025-02-24"]


def test_chats_of_one_turn_are_one_in_the_sums(store):
    ledger = Ledger(store)
    for number in range(3):
        ledger.add(f"{THROW_AWAY}{number}", SPENT)
    [sum_] = ledger.read().days
    assert (sum_.chat_id, sum_.turns, sum_.cached_tokens) == (THROW_AWAY, 3, 12)


def test_sums_are_safe_only_together_with_what_is_written_with_them(tmp_path):
    store = Store(tmp_path)
    Ledger(store).add("c", SPENT)
    store._database.connection.rollback()
    assert Ledger(store).read().days == ()
    store.close()


async def test_cost_is_as_safe_as_the_end_of_the_turn(process):
    client = await process.start()
    assert isinstance((await client.events())[-1], Done)
    process.signal(9)
    await process.ended()
    assert [day.turns for day in (await spendings(await process.start())).days] == [1]
