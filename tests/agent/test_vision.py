"""Images that people send: shown to models that can see, and told to those that cannot."""

import base64
import json
from itertools import pairwise

import pytest

from agent.compaction import Compactor, Frame
from agent.history import IMAGE_TOKENS, History, tokens, valid
from agent.images import MAX_BYTES, Images, image_type
from agent.protocol import Done, Role
from agent.store import Message, Speaker, Store
from tests.agent.conftest import as_written
from tests.agent.test_history import Summariser, called, result
from tests.fakes.libertai_images import png
from tests.fakes.libertai_sim import Call, Script, ToolCall

JPEG = b"\xff\xd8\xff\xe0 a photo"
BLIND = "You cannot see images with this model: tell the person so."


@pytest.fixture
async def client(agents):
    return await agents(agent_vision=True)


async def sent(client, file_id: str, content: bytes, chat: str = "c1", name: str = "a.png"):
    query = {"name": name, "role": "owner", "media_type": "image/png"}
    response = await client.http.put(f"/files/{chat}/{file_id}", params=query, content=content)
    assert response.status_code == 200, response.text
    return response.json()


async def ask(client, message: str, *files, **fields):
    events = await client.events(message, role=Role.OWNER, attachments=files, **fields)
    assert isinstance(events[-1], Done)


def shown(call: Call) -> list[list[bytes]]:
    """The images of each message of a person."""
    people = [message["content"] for message in call.messages if message["role"] == "user"]
    return [
        [_decoded(part) for part in said if part["type"] == "image_url"] if isinstance(said, list) else []
        for said in people
    ]


def _decoded(part) -> bytes:
    return base64.b64decode(part["image_url"]["url"].partition(",")[2])


def text_of(content) -> str:
    return content if isinstance(content, str) else content[0]["text"]


async def test_image_goes_with_its_question(client, libertai):
    photo = await sent(client, "f1", JPEG, name="a.jpg")
    assert photo["media_type"] == "image/jpeg"
    await ask(client, "What is this?", photo)
    [question] = (await libertai.calls())[0].messages
    text, image = question["content"]
    line = f"[Attached file: received/a.jpg, image/jpeg, {len(JPEG)} bytes.]"
    assert text["text"].startswith(f"What is this?\n{line}\n\n[Not written")
    assert image == {
        "type": "image_url",
        "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"},
    }


async def test_what_was_sent_stays_the_same_over_later_turns_and_rounds(client, libertai):
    await ask(client, "What is this?", await sent(client, "f1", png(1)))
    await libertai.script(Script(calls=[ToolCall(name="list_files")]), Script(text="done"))
    await ask(client, "And this?", await sent(client, "f2", png(2)))
    await ask(client, "Thanks")
    calls = await libertai.calls()
    assert [shown(call) for call in calls] == [
        [[png(1)]],
        [[png(1)], [png(2)]],
        [[png(1)], [png(2)]],
        [[png(1)], [png(2)], []],
    ]
    for before, after in pairwise(calls):
        # The newest question of each has the note on the time.
        newest = max(index for index, said in enumerate(before.messages) if said["role"] == "user")
        assert after.messages[:newest] == before.messages[:newest]


async def test_newest_four_are_shown_and_older_ones_become_text(client, libertai):
    for number in range(3):
        files = [await sent(client, f"f{number}{place}", png(10 * number + place)) for place in range(2)]
        await ask(client, f"question {number}", *files)
    last = (await libertai.calls())[-1]
    assert shown(last) == [[], [png(10), png(11)], [png(20), png(21)]]
    first = last.messages[0]["content"]
    assert "received/a.png, image/png" in first
    assert first.endswith("[Images of this message that you are not shown any more: 2.]")
    assert "not shown" not in text_of(last.messages[2]["content"])


async def test_of_a_whole_album_the_last_four_are_shown(client, libertai):
    files = [await sent(client, f"f{number}", png(number)) for number in range(10)]
    await ask(client, "Which one?", *files)
    call = (await libertai.calls())[0]
    assert shown(call) == [[png(6), png(7), png(8), png(9)]]
    assert text_of(call.messages[0]["content"]).count("[Attached file: ") == 10


async def test_images_of_one_chat_are_not_another_ones(client, libertai):
    await ask(client, "Mine", await sent(client, "f1", png(1)), chat_id="c1")
    for number in range(5):
        await ask(client, "Theirs", await sent(client, f"f{number}", png(50), chat="c2"), chat_id="c2")
    await ask(client, "And now?", chat_id="c1")
    assert shown((await libertai.calls())[-1]) == [[png(1)], []]


async def test_model_that_cannot_see_is_told_and_gets_no_images(agents, libertai):
    client = await agents(agent_vision=False)
    await ask(client, "What is this?", await sent(client, "f1", png()))
    content = (await libertai.calls())[0].messages[0]["content"]
    assert f"image/png, {len(png())} bytes. {BLIND}]" in content


@pytest.mark.parametrize("content", [b"<svg/>", b"\x89PNG", b"RIFF1234WAVE", b"GIF90a", b""])
async def test_what_only_says_that_it_is_an_image_is_a_file(client, libertai, content):
    await ask(client, "What is this?", await sent(client, "f1", content))
    said = (await libertai.calls())[0].messages[0]["content"]
    assert "received/a.png, application/octet-stream" in said
    assert BLIND not in said


async def test_image_with_too_many_bytes_is_a_file_and_says_so(client, libertai):
    files = [await sent(client, f"f{more}", png() + bytes(MAX_BYTES - len(png()) + more)) for more in (0, 1)]
    await ask(client, "What is this?", *files)
    text = text_of((await libertai.calls())[0].messages[0]["content"])
    assert len(shown((await libertai.calls())[0])[0]) == 1
    assert text.count("too many bytes to be shown") == 1


async def test_replaced_image_is_shown_as_it_is_now_and_a_replaced_file_not_at_all(client, libertai):
    await sent(client, "f1", png(1))
    await sent(client, "f2", png(2))
    files = [await sent(client, "f1", png(3)), await sent(client, "f2", b"no image")]
    await ask(client, "What is this?", *files)
    assert shown((await libertai.calls())[0]) == [[png(3)]]


async def test_turn_run_again_shows_its_images_once(client, libertai):
    file = await sent(client, "f1", png())
    await libertai.refuse(500)
    await libertai.refuse(500)
    await client.events("What?", role=Role.OWNER, attachments=[file], turn_id="t1")
    await ask(client, "What?", file, turn_id="t1", retry=True)
    call = (await libertai.calls())[-1]
    assert shown(call) == [[png()]]
    assert len(call.messages) == 1


async def test_two_questions_without_an_answer_between_keep_their_images(client, libertai):
    await libertai.refuse(403)
    await client.events("one", role=Role.OWNER, attachments=[await sent(client, "f1", png(1))])
    await ask(client, "two", await sent(client, "f2", png(2)))
    call = (await libertai.calls())[-1]
    assert shown(call) == [[png(1), png(2)]]
    assert len(call.messages) == 1


async def test_forgotten_chat_has_no_images(client, libertai, tmp_path):
    await ask(client, "What?", await sent(client, "f1", png(7) + b"marked"))
    await client.http.delete("/chat/c1")
    await ask(client, "And now?")
    call = (await libertai.calls())[-1]
    assert shown(call) == [[]]
    assert client.turns._store.execute("SELECT count(*) FROM image").fetchone() == (0,)


async def test_images_survive_a_restart(agents, libertai):
    first = await agents(agent_vision=True)
    await ask(first, "What?", await sent(first, "f1", png(1)))
    first.turns._store.close()
    second = await agents(agent_vision=True)
    await ask(second, "And?")
    assert shown((await libertai.calls())[-1]) == [[png(1)], []]


async def test_change_of_the_model_changes_what_is_shown(agents, libertai):
    client = await agents()
    assert BLIND in await told(client, libertai, await sent(client, "f1", png(1)))
    for version, vision in enumerate((True, False), 1):
        await client.http.put("/config", json={"version": version, "vision": vision})
        photo = await sent(client, f"g{version}", png(2))
        assert (BLIND in await told(client, libertai, photo)) is not vision
        assert [png(2)] in shown((await libertai.calls())[-1]) or not vision


async def told(client, libertai, file) -> str:
    """What the model is told with a question that brings this file."""
    await ask(client, "What is this?", file)
    return text_of((await libertai.calls())[-1].messages[-1]["content"])


async def test_summary_leaves_images_out(agents, libertai):
    client = await agents(agent_vision=True, agent_context_tokens=3_000)
    await ask(client, "What is this?", await sent(client, "f1", png(1)))
    await libertai.script(Script(text="They sent a cat."), Script(text="Fine."))
    await ask(client, "x" * 6_000)
    summary, after = (await libertai.calls())[-2:]
    assert shown(summary) == [[]] or shown(summary) == [[], []]
    assert "They sent a cat." in json.dumps(as_written(after.messages))
    assert all(not images for images in shown(after))


# Its parts


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (png(), "image/png"),
        (JPEG, "image/jpeg"),
        (b"GIF89a...", "image/gif"),
        (b"RIFF\x10\0\0\0WEBPVP8 ", "image/webp"),
        (b"BM......", ""),
        (b"", ""),
    ],
)
def test_images_are_known_by_their_first_bytes(head, kind):
    assert image_type(head) == kind


@pytest.fixture
def store(tmp_path):
    opened = Store(tmp_path)
    yield opened
    opened.close()


def test_repairs_keep_the_images_of_merged_messages():
    messages = [
        Message(Speaker.USER, "a", images=("1",)),
        Message(Speaker.USER, "b"),
        called("", "k"),
        result("k"),
        Message(Speaker.USER, "c", images=("2", "3")),
    ]
    assert [message.images for message in valid(messages)] == [("1",), (), (), (), ("2", "3")]


def test_images_count_as_tokens_but_no_more_than_are_shown():
    plain = [Message(Speaker.USER, "a" * 300)]
    assert tokens([Message(Speaker.USER, "a" * 300, images=("1", "2"))]) == tokens(plain) + 2 * IMAGE_TOKENS
    assert tokens([Message(Speaker.USER, "a" * 300, images=tuple("123456"))]) == tokens(plain) + 4 * IMAGE_TOKENS


async def test_many_images_make_a_chat_long(store):
    history = History(store, 400)
    for number in range(6):
        said = [Message(Speaker.USER, "a", images=(str(number),)), Message(Speaker.ASSISTANT, "b")]
        store.add_messages("t", "c", said)
    model = Summariser()
    past = await Compactor(model, history, 4_000).fit("c", Frame("s"))
    assert len(model.asked) == 1
    assert sum(len(message.images) for message in past.messages()) == 1


def test_database_keeps_no_more_than_can_be_shown(store):
    images = Images(store, vision=lambda: True)
    for number in range(30):
        images.keep("c", f"f{number}", "image/png", png(), created=float(number))
    assert store.execute("SELECT count(*) FROM image").fetchone() == (10,)
    assert images.ask("c", [f"f{number}" for number in range(30)]) == ("f26", "f27", "f28", "f29")
    assert store.execute("SELECT count(*) FROM image").fetchone() == (4,)


def test_database_of_an_older_version_gets_the_column(tmp_path):
    store = Store(tmp_path)
    store.execute("ALTER TABLE message DROP COLUMN images")
    store.close()
    again = Store(tmp_path)
    again.add_messages("t", "c", [Message(Speaker.USER, "a", images=("x", "y"))])
    assert again.recent_messages("c", 1)[0][1].images == ("x", "y")
    again.close()
