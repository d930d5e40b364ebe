"""What of a long chat the model is shown."""

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from agent.calls import Call
from agent.compaction import Compactor, Frame
from agent.errors import ModelFailed
from agent.history import NO_RESULT, STOPPED, History, tokens, valid
from agent.llm import Completion, Llm, Server
from agent.protocol import ErrorKind
from agent.store import Aside, Message, Speaker, Store

USER, ASSISTANT, TOOL = Speaker.USER, Speaker.ASSISTANT, Speaker.TOOL


class Summariser(Llm):
    """A model that writes summaries, or fails."""

    def __init__(self, *, says: str = "They talked.", fails: ErrorKind | None = None) -> None:
        super().__init__(Server(base_url="http://model.invalid", api_key=SecretStr("x")), "m", 1)
        self.asked: list[list[Message]] = []
        self._says = says
        self._fails = fails

    async def complete(self, system: Any, messages: Any, say: Any, tools: Any = (), images: Any = ()) -> Completion:
        self.asked.append(messages)
        if self._fails:
            raise ModelFailed(self._fails, "scripted")
        say(self._says)
        return Completion("stop")


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


def said(store: Store, *messages: tuple[Speaker, str], chat: str = "c") -> None:
    store.add_messages("t", chat, [Message(speaker, text) for speaker, text in messages])


def called(text: str = "", *ids: str) -> Message:
    return Message(ASSISTANT, text, tuple(Call(id_, "look", "{}") for id_ in ids))


def result(id_: str, text: str = "seen") -> Message:
    return Message(TOOL, text, call_id=id_)


def plain(messages: list[Message]) -> list[tuple[Speaker, str]]:
    return [(message.speaker, message.text) for message in messages]


def loaded(store: Store, *, messages: int = 100) -> list[tuple[Speaker, str]]:
    return plain(History(store, messages).load("c").messages())


async def fitted(
    store: Store, budget: int, *, model: Llm | None = None, squeeze: bool = False
) -> list[tuple[Speaker, str]]:
    compactor = Compactor(model or Summariser(), History(store, 100), budget)
    return plain((await compactor.fit("c", Frame(""), squeeze=squeeze)).messages())


def test_chat_is_shown_from_its_oldest_message_to_its_newest(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "c"))
    said(store, (USER, "x"), chat="other")
    assert loaded(store) == [(USER, "a"), (ASSISTANT, "b"), (USER, "c")]


def test_oldest_messages_are_left_out_and_the_first_shown_is_the_users(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "c"), (ASSISTANT, "d"), (USER, "e"))
    assert loaded(store, messages=4) == [(USER, "c"), (ASSISTANT, "d"), (USER, "e")]


def test_question_is_shown_also_when_its_answer_has_taken_more_steps_than_are_shown(store):
    said(store, (USER, "old"), (ASSISTANT, "b"), (USER, "question"))
    for number in range(5):
        store.add_messages("t", "c", [called("", f"a{number}"), result(f"a{number}")])
    shown = loaded(store, messages=3)
    assert shown == [(USER, "question"), (ASSISTANT, ""), (TOOL, "seen")]


def test_message_whose_number_was_in_a_summary_once_is_shown_all_the_same(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "c"))
    store.keep_summary("c", 3, "They talked.")
    store.drop_messages("t")
    said(store, (USER, "d"), (ASSISTANT, "e"), (USER, "f"))
    assert loaded(store)[2:] == [(USER, "d"), (ASSISTANT, "e"), (USER, "f")]


def test_neighbours_of_one_speaker_are_joined(store):
    said(store, (USER, "a"), (USER, "b"), (ASSISTANT, "c"), (USER, "d"))
    assert loaded(store) == [(USER, "a\n\nb"), (ASSISTANT, "c"), (USER, "d")]


def test_reading_uses_the_index_however_long_the_chat_is(store):
    for query in (
        "SELECT speaker, text FROM message WHERE chat_id = 'c' AND id > 5 ORDER BY id DESC LIMIT 100",
        "SELECT text FROM message WHERE chat_id = 'c' AND speaker = 'user' ORDER BY id DESC LIMIT 1",
    ):
        plan = store._database.execute(f"EXPLAIN QUERY PLAN {query}").fetchall()
        [step] = [step[3] for step in plan]
        assert step.startswith("SEARCH message USING INDEX message_by_chat")


STEPS = 100
"""Of SQLite's virtual machine, between two ticks."""


@pytest.mark.parametrize("shape", ["talk", "one question"])
def test_turn_costs_the_same_after_ten_and_after_a_hundred_thousand_messages(store, shape):
    """In steps of SQLite's machine, which count alike on every machine, for all that a turn reads and writes."""
    ticks = 0

    def tick() -> int:
        nonlocal ticks
        ticks += 1
        return 0

    def cost(known: int) -> int:
        nonlocal ticks
        chat = f"c{known}"
        pair = [Message(USER if shape == "talk" else ASSISTANT, "x"), Message(ASSISTANT, "y")]
        store.add_messages("t", chat, [Message(USER, "first"), *pair * (known // 2)])
        store.commit()
        ticks = 0
        store._database.connection.set_progress_handler(tick, STEPS)
        for number in range(20):
            store.add_turn(f"{chat} {number}", chat)
            store.drop_messages(f"{chat} {number}")
            store.add_messages(f"{chat} {number}", chat, [Message(USER, "q")])
            History(store, 8).load(chat, Aside("s", "Monday.", "facts"))
            store.add_messages(f"{chat} {number}", chat, [Message(ASSISTANT, "a")])
            store.find_turn(f"{chat} {number}")
        store._database.connection.set_progress_handler(None, 0)
        return ticks

    few, many = cost(10), cost(100_000)
    assert few > 20
    assert many <= 1.5 * few


async def test_what_does_not_fit_into_the_context_becomes_a_summary(store):
    said(store, (USER, "x" * 300), (ASSISTANT, "b"), (USER, "c"))
    told, understood, asked = await fitted(store, 100)
    assert told[1].startswith("Summary of our conversation so far:\nThey talked.")
    assert (understood[0], asked) == (ASSISTANT, (USER, "c"))
    assert loaded(store) == [told, understood, asked]


async def test_chat_that_fits_is_shown_as_it_is_and_no_summary_asked_for(store):
    said(store, (USER, "x" * 200), (ASSISTANT, "b"), (USER, "c"))
    model = Summariser()
    assert await fitted(store, 100, model=model) == loaded(store)
    assert model.asked == []


async def test_next_summary_is_made_of_the_last_one_and_what_came_after(store):
    said(store, (USER, "x" * 300), (ASSISTANT, "b"), (USER, "c"))
    await fitted(store, 100)
    said(store, (ASSISTANT, "y" * 300), (USER, "d"))
    model = Summariser(says="They talked more.")
    shown = await fitted(store, 200, model=model, squeeze=True)
    assert "They talked." in model.asked[0][0].text
    assert "They talked more." in shown[0][1]
    assert shown[-1] == (USER, "d")


@pytest.mark.parametrize("kind", [ErrorKind.BUSY, ErrorKind.TOO_LONG, ErrorKind.NO_ALLOWANCE])
async def test_failed_summary_costs_nothing_for_good(store, kind):
    said(store, (USER, "x" * 300), (ASSISTANT, "b"), (USER, "c"))
    shown = await fitted(store, 100, model=Summariser(fails=kind))
    assert (len(shown), shown[-1]) == (3, (USER, "c"))
    assert loaded(store)[0] == (USER, "x" * 300)
    assert "They talked." in (await fitted(store, 100))[0][1]


async def test_newest_message_is_shown_however_long_it_is(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "x" * 100))
    assert (await fitted(store, 10))[-1] == (USER, "x" * 100)


async def test_squeezed_chat_is_at_most_half_starts_with_the_user_and_keeps_the_question(store):
    said(store, *[(USER, "a" * 30), (ASSISTANT, "b" * 30)] * 10, (USER, "question"))
    shown = await fitted(store, 10_000, squeeze=True)
    assert (shown[0][0], shown[-1]) == (USER, (USER, "question"))
    kept = [text for _, text in shown[2:]]
    assert 3 <= len(kept) <= 11


async def test_old_results_go_first_and_no_summary_is_needed_then(store):
    store.add_messages(
        "t", "c", [Message(USER, "a"), called("", "1"), result("1", "r" * 3_000), Message(ASSISTANT, "b")]
    )
    said(store, (USER, "c"))
    model = Summariser()
    shown = await fitted(store, 1_000, model=model)
    assert model.asked == []
    assert [speaker for speaker, _ in shown] == [USER, ASSISTANT, TOOL, ASSISTANT, USER]
    assert shown[2][1].startswith("r" * 300 + "\n[… the rest of this old result was removed")


async def test_answer_that_gathers_too_much_by_itself_still_fits(store):
    said(store, (USER, "compare them"))
    for number in range(6):
        store.add_messages("t", "c", [called("", f"{number}a", f"{number}b")])
        store.add_messages("t", "c", [result(f"{number}{side}", side * 16_000) for side in "ab"])
        shown = await fitted(store, 11_000)
        assert tokens(History(store, 100).load("c").messages()) <= 0.75 * 11_000 + 100
        assert shown[-1][1].startswith("b" * 5_000)
    assert shown[0] == (USER, "compare them")


async def test_summary_of_what_is_too_long_to_be_summarised_leaves_its_oldest_out(store):
    said(store, (USER, "start"), (ASSISTANT, "x" * 4_000), (USER, "y"), (ASSISTANT, "z"), (USER, "question"))
    model = Summariser()
    await fitted(store, 1_000, model=model)
    [asked] = model.asked
    assert asked == valid(asked)
    assert tokens(asked) < 1_000
    assert asked[0].text.startswith("[Older messages were left out here.]")


@pytest.mark.parametrize("frame", [Frame("x" * 3_000), Frame("", tools_chars=3_000)])
async def test_system_prompt_and_tools_take_their_part_of_the_context(store, frame):
    said(store, (USER, "x" * 1_500), (ASSISTANT, "b"), (USER, "c"))
    compactor = Compactor(Summariser(), History(store, 100), 1_500)
    assert (await compactor.fit("c", Frame(""))).summary == ""
    assert (await compactor.fit("c", frame)).summary == "They talked."


async def test_notes_of_the_newest_question_take_their_part_of_the_context(store):
    said(store, (USER, "x" * 1_500), (ASSISTANT, "b"), (USER, "c"))
    compactor = Compactor(Summariser(), History(store, 100), 1_000)
    assert (await compactor.fit("c", Frame(""))).summary == ""
    past = await compactor.fit("c", Frame("", Aside("s", "Monday.", "n" * 1_500)))
    assert past.summary == "They talked."
    assert past.messages()[-1].text.endswith("n" * 1_500 + "]")


MESSAGES = st.one_of(
    st.builds(Message, st.just(USER), st.text("ab", min_size=1, max_size=3)),
    st.builds(Message, st.just(ASSISTANT), st.text("ab", min_size=1, max_size=3)),
    st.builds(called, st.text("ab", max_size=1), st.sampled_from("12"), st.sampled_from("34")),
    st.builds(result, st.sampled_from("1234")),
)


@given(st.lists(MESSAGES, max_size=12))
def test_whatever_is_left_of_a_chat_is_repaired(messages):
    repaired = valid(messages)
    assert not repaired or repaired[0].speaker is USER
    pending: list[str] = []
    for before, message in pairwise([None, *repaired]):
        assert message
        if message.speaker is TOOL:
            assert message.call_id == pending.pop(0)
            continue
        assert not pending
        assert before is None or before.speaker is not message.speaker
        assert not (message.speaker is USER and before and before.speaker is TOOL)
        pending = [call.id for call in message.calls]
    assert not pending
    assert valid(repaired) == repaired


def test_call_without_a_result_gets_one_and_a_result_without_a_call_goes():
    chat = [result("0"), Message(USER, "a"), called("", "1", "2"), result("2", "two"), result("9"), Message(USER, "b")]
    stopped = [(ASSISTANT, STOPPED)]
    assert plain(valid(chat)) == [(USER, "a"), (ASSISTANT, ""), (TOOL, NO_RESULT), (TOOL, "two"), *stopped, (USER, "b")]
