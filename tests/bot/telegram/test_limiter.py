"""Calls keep to Telegram's rates by priority, and a 429 in one chat stays the matter of that chat."""

import asyncio

import pytest
from telegram.error import BadRequest, RetryAfter

from bot.telegram.limiter import GLOBAL_RATE, Dropped, Limiter, Priority, edit_interval
from tests.bot.telegram.clock import HandClock, settle

GROUP = -1001


class Telegram:
    """Stands where PTB's own sender would be called: writes down what goes out and refuses when told to."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.sent: list[tuple[float, object, str]] = []
        self.refusals: dict[object, list[Exception]] = {}

    def refuse(self, chat_id: object, *errors: Exception) -> None:
        self.refusals[chat_id] = list(errors)

    async def call(self, chat_id: object, text: str) -> bool:
        if refusals := self.refusals.get(chat_id):
            raise refusals.pop(0)
        self.sent.append((self.clock.now, chat_id, text))
        return True

    @property
    def texts(self) -> list[str]:
        return [text for _, _, text in self.sent]


class Bench:
    """A limiter on a hand clock with a Telegram behind it."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.telegram = Telegram(self.clock)
        self.limiter = Limiter(self.clock)
        self.start = self.clock.now

    async def call(
        self, chat_id: object, text: str = "x", priority: Priority | None = None, endpoint: str = "sendMessage"
    ):
        return await self.limiter.process_request(
            self.telegram.call, (chat_id, text), {}, endpoint, {"chat_id": chat_id}, priority
        )

    def begin(self, chat_id, text="x", priority=None, endpoint="sendMessage"):
        return asyncio.ensure_future(self.call(chat_id, text, priority, endpoint))

    def seconds(self) -> list[float]:
        return [round(when - self.start, 3) for when, _, _ in self.telegram.sent]


@pytest.fixture
async def bench():
    bench = Bench()
    yield bench
    await bench.limiter.shutdown()


async def finish(bench: Bench, *tasks, seconds: float = 600):
    await bench.clock.advance(seconds)
    return await asyncio.gather(*tasks)


async def test_a_chat_gets_a_burst_of_four_and_then_one_a_second(bench):
    tasks = [bench.begin(1) for _ in range(6)]

    await finish(bench, *tasks)

    assert bench.seconds() == [0, 0, 0, 0, 1, 2]


async def test_a_group_gets_no_more_than_twenty_in_any_minute(bench):
    tasks = [bench.begin(GROUP) for _ in range(60)]

    await finish(bench, *tasks)

    sent = bench.seconds()
    assert len(sent) == 60
    assert max(sum(start <= when < start + 60 for when in sent) for start in sent) <= 20


async def test_all_chats_together_keep_to_the_global_rate(bench):
    tasks = [bench.begin(chat) for chat in range(1, 301)]

    await finish(bench, *tasks)

    assert len(bench.seconds()) == 300
    assert bench.seconds()[-1] == pytest.approx((300 - 8) / GLOBAL_RATE, abs=0.01)


async def test_higher_priorities_go_first_when_many_wait(bench):
    tasks = [bench.begin(chat, "early") for chat in range(1, 9)]
    for chat, priority in enumerate(
        (Priority.FIRST, Priority.CONTROL, Priority.CALLBACK, Priority.FINAL, Priority.FIRST), start=10
    ):
        tasks.append(bench.begin(chat, priority.name, priority))
        await settle()

    await finish(bench, *tasks)

    assert bench.telegram.texts[8:] == ["FINAL", "CALLBACK", "CONTROL", "FIRST", "FIRST"]


async def test_a_penalty_of_one_chat_never_delays_another(bench):
    bench.telegram.refuse(1, RetryAfter(60))
    first = bench.begin(1, "final of A", Priority.FINAL)
    await settle()

    other = bench.begin(2, "answer of B", Priority.FIRST)
    await settle()

    assert bench.telegram.sent == [(bench.start, 2, "answer of B")]
    await bench.clock.advance(59.9)
    assert not first.done()
    await finish(bench, first, other)
    assert bench.telegram.sent[1:] == [(bench.start + 60, 1, "final of A")]


@pytest.mark.filterwarnings("ignore::telegram.warnings.PTBDeprecationWarning")
async def test_a_penalty_may_be_given_in_whole_seconds(bench, monkeypatch):
    monkeypatch.delenv("PTB_TIMEDELTA")
    bench.telegram.refuse(1, RetryAfter(7))
    call = bench.begin(1)

    await finish(bench, call)

    assert bench.seconds() == [7]


async def test_every_repeated_penalty_is_waited_for(bench):
    bench.telegram.refuse(1, RetryAfter(5), RetryAfter(10), RetryAfter(1))
    call = bench.begin(1, priority=Priority.FINAL)

    await finish(bench, call)

    assert bench.seconds() == [16]


@pytest.mark.parametrize("priority", [Priority.PROGRESS, Priority.TYPING])
async def test_progress_is_dropped_when_telegram_refuses_it(bench, priority):
    bench.telegram.refuse(1, RetryAfter(60))

    with pytest.raises(Dropped):
        await bench.call(1, priority=priority)

    assert [bench.limiter.has_room(chat, priority) for chat in (1, 2)] == [False, True]


@pytest.mark.parametrize("priority", [Priority.PROGRESS, Priority.TYPING])
async def test_progress_is_dropped_without_a_call_while_the_chat_has_a_penalty(bench, priority):
    bench.telegram.refuse(1, RetryAfter(60))
    waiting = bench.begin(1)
    await settle()

    with pytest.raises(Dropped):
        await bench.call(1, priority=priority)

    await finish(bench, waiting)
    assert len(bench.telegram.sent) == 1


async def test_progress_is_dropped_when_the_chats_burst_is_used_up(bench):
    for _ in range(4):
        await bench.call(1, priority=Priority.PROGRESS)

    with pytest.raises(Dropped):
        await bench.call(1, priority=Priority.PROGRESS)


async def test_progress_leaves_room_for_final_answers(bench):
    for chat in range(1, 5):
        await bench.call(chat, priority=Priority.PROGRESS)

    with pytest.raises(Dropped):
        await bench.call(5, priority=Priority.PROGRESS)
    await bench.call(5, priority=Priority.FINAL)

    assert len(bench.telegram.sent) == 5


async def test_typing_does_not_use_up_the_chats_messages(bench):
    for _ in range(3):
        await bench.call(1, priority=Priority.TYPING, endpoint="sendChatAction")

    tasks = [bench.begin(1) for _ in range(4)]
    await settle()

    assert [task.done() for task in tasks] == [True] * 4


async def test_answers_to_buttons_pass_a_penalty_of_their_chat(bench):
    bench.telegram.refuse(1, RetryAfter(60))
    waiting = bench.begin(1)
    await settle()

    await bench.call(1, "button", endpoint="answerCallbackQuery")

    assert bench.telegram.texts == ["button"]
    await finish(bench, waiting)


async def test_everything_pauses_when_three_chats_are_refused_within_five_seconds(bench):
    for chat, seconds in ((1, 30), (2, 10), (3, 20)):
        bench.telegram.refuse(chat, RetryAfter(seconds))
    refused = [bench.begin(chat) for chat in (1, 2, 3)]
    await settle()

    other = bench.begin(4, "other")
    await settle()

    assert bench.telegram.sent == []
    await finish(bench, *refused, other)
    assert [(when - bench.start, chat) for when, chat, _ in bench.telegram.sent] == [(10, 2), (10, 4), (20, 3), (30, 1)]


async def test_nothing_pauses_when_three_refusals_are_spread_over_time(bench):
    refused = []
    for chat in (1, 2, 3):
        bench.telegram.refuse(chat, RetryAfter(60))
        refused.append(bench.begin(chat))
        await bench.clock.advance(4)

    await bench.call(4, "other")

    assert bench.telegram.texts == ["other"]
    await finish(bench, *refused)


async def test_other_errors_reach_the_caller(bench):
    bench.telegram.refuse(1, BadRequest("message is too long"))

    with pytest.raises(BadRequest, match="too long"):
        await bench.call(1)


async def test_a_cancelled_call_gives_up_its_place(bench):
    tasks = [bench.begin(1, str(number)) for number in range(6)]
    await settle()
    tasks[4].cancel()

    await bench.clock.advance(10)

    assert (bench.telegram.texts, bench.seconds()) == (["0", "1", "2", "3", "5"], [0, 0, 0, 0, 1])


async def test_stopping_leaves_nobody_waiting(bench):
    tasks = [bench.begin(1) for _ in range(5)]
    await settle()

    await bench.limiter.shutdown()

    with pytest.raises(Dropped, match="stopping"):
        await tasks[4]


async def test_chats_at_rest_are_forgotten(bench):
    for chat in range(1, 3_001):
        await bench.call(chat)
        bench.clock.now += 10

    assert len(bench.limiter._chats) <= 1_000


@pytest.mark.parametrize(("streams", "seconds"), [(0, 1.5), (1, 1.5), (27, 1.5), (54, 3.0), (108, 6.0), (1_000, 6.0)])
def test_edits_get_slower_with_the_number_of_streams(streams, seconds):
    assert edit_interval(streams) == seconds
