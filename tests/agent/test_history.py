"""What of a long chat the model is shown."""

import pytest

from agent.history import History, newer_half
from agent.store import Message, Speaker, Store

USER, ASSISTANT = Speaker.USER, Speaker.ASSISTANT


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


def said(store: Store, *messages: tuple[Speaker, str]) -> None:
    for speaker, text in messages:
        store.add_message("t", "c", Message(speaker, text))


def loaded(store: Store, *, messages: int = 100, tokens: int = 1_000) -> list[tuple[Speaker, str]]:
    return [(message.speaker, message.text) for message in History(store, messages, tokens).load("c")]


def test_chat_is_shown_from_its_oldest_message_to_its_newest(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "c"))
    store.add_message("t", "other", Message(USER, "x"))
    assert loaded(store) == [(USER, "a"), (ASSISTANT, "b"), (USER, "c")]


def test_oldest_messages_are_left_out_and_the_first_shown_is_the_users(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "c"), (ASSISTANT, "d"), (USER, "e"))
    assert loaded(store, messages=4) == [(USER, "c"), (ASSISTANT, "d"), (USER, "e")]


def test_what_does_not_fit_into_the_context_is_left_out(store):
    said(store, (USER, "x" * 30), (ASSISTANT, "b"), (USER, "c"))
    assert loaded(store, tokens=10) == [(USER, "c")]


def test_newest_message_is_shown_however_long_it_is(store):
    said(store, (USER, "a"), (ASSISTANT, "b"), (USER, "x" * 100))
    assert loaded(store, tokens=10) == [(USER, "x" * 100)]


def test_neighbours_of_one_speaker_are_joined(store):
    said(store, (USER, "a"), (USER, "b"), (ASSISTANT, "c"), (USER, "d"))
    assert loaded(store) == [(USER, "a\n\nb"), (ASSISTANT, "c"), (USER, "d")]


def test_newer_half_starts_with_the_user_and_keeps_the_question():
    chat = [Message(USER, "a"), Message(ASSISTANT, "b"), Message(USER, "c")]
    assert newer_half(chat) == [Message(USER, "c")]
    assert newer_half([*chat, Message(ASSISTANT, "d"), Message(USER, "e")]) == [Message(USER, "e")]


def test_reading_uses_the_index_however_long_the_chat_is(store):
    plan = store._database.execute(
        "EXPLAIN QUERY PLAN SELECT speaker, text FROM message WHERE chat_id = ? ORDER BY id DESC LIMIT ?", ("c", 100)
    ).fetchall()
    assert [step[3] for step in plan] == ["SEARCH message USING INDEX message_by_chat (chat_id=?)"]
