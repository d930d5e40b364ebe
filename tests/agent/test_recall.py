"""What was said long ago in a chat is found again, in that chat alone, and cheaply."""

import time

import pytest

from agent.protocol import Role
from agent.recall import MAX_HITS, Recall
from agent.store import Message, Speaker, Store
from tests.agent.conftest import answer, room_for_chats
from tests.fakes.libertai_sim import Script, ToolCall


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    yield store
    store.close()


def say(store: Store, *texts: str, chat: str = "c1", turn: str = "t") -> None:
    """A person and the agent in turns."""
    speakers = (Speaker.USER, Speaker.ASSISTANT)
    store.add_messages(turn, chat, [Message(speakers[number % 2], text) for number, text in enumerate(texts)])


async def found(store: Store, *words: str, chat: str = "c1") -> list[str]:
    return await Recall(store, chat).search(words)


async def test_message_is_found_with_what_is_around_it(store):
    say(store, "Hello", "Hi!", "My cat is called Tom", "A fine name.", "What is my cat's name?")
    [hit] = await found(store, "CAT")
    assert hit == "You: Hi!\nThey: My cat is called Tom\nYou: A fine name."


async def test_all_words_must_be_there_whatever_their_case_and_order(store):
    say(store, "Der Äpfelkuchen war gut", "Schön.", "Der Kuchen nicht", "Oh.", "?")
    assert len(await found(store, "GUT", "äpfel")) == 1
    assert await found(store, "gut", "nicht") == []
    assert await found(store, "100%") == []
    assert await found(store, "_") == []


async def test_newest_come_first_and_only_so_many(store):
    for number in range(20):
        say(store, f"soup {number}.", "Yes.")
    say(store, "soup?")
    hits = await found(store, "soup")
    assert len(hits) == MAX_HITS
    assert [f"soup {number}." in hit for number, hit in zip(range(19, 9, -1), hits, strict=True)] == [True] * MAX_HITS


async def test_question_that_is_being_answered_is_not_found(store):
    say(store, "I said leek once", "Yes.", "What did I say about leek?")
    assert len(await found(store, "leek")) == 1
    assert await found(store, "about", "leek") == []


async def test_nobody_finds_what_was_said_in_another_chat(store):
    say(store, "my leek secret", "Noted.", chat="c1")
    say(store, "hi", "Hello.", "a leek?", chat="c2")
    assert await found(store, "secret", chat="c2") == []
    assert await found(store, "leek", chat="c2") == []
    assert await found(store, "hello", chat="c2") == ["They: hi\nYou: Hello.\nThey: a leek?"]


async def test_long_messages_are_cut_around_the_word_and_all_hits_fit_a_result(store):
    for _ in range(12):
        say(store, "x" * 5_000 + " needle " + "y" * 5_000, "z" * 5_000)
    say(store, "where is the needle?")
    hits = await found(store, "needle")
    assert all("x needle y" in hit for hit in hits)
    assert len("\n\n---\n\n".join(hits)) < 16_000


async def test_what_tools_brought_is_not_searched(store):
    say(store, "look", "Looking.")
    store.add_messages("t", "c1", [Message(Speaker.TOOL, "a needle", call_id="s1")])
    say(store, "and?")
    assert await found(store, "needle") == []


async def test_messages_of_the_last_days_have_a_date(store):
    store.add_turn("t1", "c1")
    say(store, "leek", "Yes.", turn="t1")
    say(store, "and?", turn="t2")
    assert (await found(store, "leek"))[0].startswith(time.strftime("[%Y-%m-%d]\nThey: leek", time.gmtime()))


async def test_hundred_thousand_messages_are_searched_in_bounded_time_and_others_go_on(store):
    say(store, "the needle", "Yes.")
    text = "Some words of the usual length, as people write them, about this and that. " * 3
    speakers = (Speaker.USER, Speaker.ASSISTANT)
    store.add_messages("t", "c1", [Message(speakers[number % 2], text) for number in range(99_000)])
    say(store, "where is it?")
    begun = time.process_time()
    assert len(await found(store, "needle")) == 1
    assert time.process_time() - begun < 2


async def test_model_recalls_what_its_summary_has_lost(agents, libertai):
    client = await agents()
    await libertai.always(Script(text="Fine. " * 30))
    await room_for_chats(client, libertai, 1_000, role=Role.OWNER)
    await client.events("My cat is called Tom.", role=Role.OWNER)
    while not (await libertai.calls())[-1].messages[0]["content"].startswith("Summary"):
        await client.events("word " * 30, role=Role.OWNER)
    call = ToolCall(name="recall", arguments={"query": "called cat"})
    await libertai.script(Script(calls=[call]), Script(text="Tom."))
    assert answer(await client.events("And what was its name?")) == "Tom."
    last = (await libertai.calls())[-1].messages
    assert not any("Tom" in message["content"] for message in last if message["role"] != "tool")
    assert "They: My cat is called Tom." in last[-1]["content"]


@pytest.mark.parametrize(("query", "told"), [("  ", "Give 1 to 20 words."), ("zebra", "No message has all of these")])
async def test_model_is_told_why_it_finds_nothing(agents, libertai, query, told):
    client = await agents()
    await libertai.script(Script(calls=[ToolCall(name="recall", arguments={"query": query})]), Script(text="No."))
    await client.events()
    assert told in (await libertai.calls())[-1].messages[-1]["content"]
