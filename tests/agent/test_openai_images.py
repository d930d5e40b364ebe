"""Images in the questions of OpenAI's own client."""

import asyncio
import base64
from typing import Any

import openai
import pytest

from agent.images import MAX_BYTES
from agent.protocol import Role
from agent.workspace import NoRoom, Workspace
from tests.agent.conftest import SECRET
from tests.agent.test_vision import BLIND, shown, text_of
from tests.fakes.libertai_images import png

JPEG, GIF, WEBP = b"\xff\xd8\xff\xe0 a photo", b"GIF89a, moving", b"RIFF\x10\0\0\0WEBPVP8 "


@pytest.fixture
async def client(agents):
    return await agents(agent_vision=True)


@pytest.fixture
async def sdk(client):
    async with sdk_of(client) as made:
        yield made


def sdk_of(client) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{client.http.base_url}/v1", api_key=SECRET)


def url(data: bytes, kind: str = "png") -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def image(where: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": where, "detail": "auto"}}


def question(*images: str, words: str = "What is it?") -> Any:
    return {"role": "user", "content": [{"type": "text", "text": words}, *map(image, images)]}


async def ask(sdk, *messages: Any, **fields) -> str:
    completion = await sdk.chat.completions.create(model="ada", messages=list(messages), **fields)
    return completion.choices[0].message.content


def kept(client, table: str) -> int:
    return client.turns._store.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # noqa: S608 - a test's own


async def until(condition) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def received(tmp_path) -> list[bytes]:
    return [file.read_bytes() for file in sorted((tmp_path / "data/workspace/received").glob("*"))]


@pytest.mark.parametrize("chat", [{}, {"user": "c1"}])
async def test_model_sees_the_images_of_a_question(sdk, libertai, chat):
    await libertai.reply("Soup.")
    kinds = url(png(1)), url(JPEG, "jpeg"), url(GIF, "gif"), url(WEBP, "webp")
    assert await ask(sdk, question(*kinds), **chat) == "Soup."
    [call] = await libertai.calls()
    assert shown(call) == [[png(1), JPEG, GIF, WEBP]]
    text = text_of(call.messages[0]["content"])
    assert text.startswith(f"What is it?\n[Attached file: received/image.png, image/png, {len(png(1))} bytes.]\n")


async def test_image_needs_no_words(sdk, libertai):
    await ask(sdk, {"role": "user", "content": [image(url(png(1)))]})
    [call] = await libertai.calls()
    assert shown(call) == [[png(1)]]
    assert text_of(call.messages[0]["content"]).startswith("[Sent without words.]\n[Attached file: ")


async def test_chat_that_is_kept_shows_its_images_again_and_keeps_one_file_of_each(client, sdk, libertai, tmp_path):
    for words in ("What is it?", "Look again."):
        await ask(sdk, question(url(png(1)), url(png(1)), words=words), user="c1")
    await ask(sdk, {"role": "user", "content": "Thanks"}, user="c1")
    assert shown((await libertai.calls())[-1]) == [[png(1)], [png(1)], []]
    assert received(tmp_path) == [png(1)]
    assert kept(client, "file") == 1
    answer = await client.events("And what was it?", role=Role.OWNER)
    assert answer
    assert shown((await libertai.calls())[-1])[0] == [png(1)]


async def test_request_that_is_sent_again_is_one_turn_with_its_images(sdk, libertai):
    for _ in range(2):
        await ask(sdk, question(url(png(1))), user="c1", extra_headers={"Idempotency-Key": "k"})
    [call] = await libertai.calls()
    assert shown(call) == [[png(1)]]


async def test_without_a_chat_nothing_of_an_image_stays(client, sdk, tmp_path):
    await ask(sdk, question(url(png(1)), url(png(2))))
    await until(lambda: not (kept(client, "file") or kept(client, "image")))
    assert received(tmp_path) == []


async def test_images_of_what_died_in_the_middle_are_removed_by_the_next_start(agents, libertai, tmp_path):
    client = await agents(agent_vision=True)
    await client.http.put("/files/once:1/f1", params={"name": "a.png", "role": "owner"}, content=png(1))
    await client.http.put("/files/c1/f2", params={"name": "b.png", "role": "owner"}, content=png(2))
    client.turns._store.close()
    again = await agents(agent_vision=True)
    await until(lambda: kept(again, "file") == 1)
    assert received(tmp_path) == [png(2)]
    assert kept(again, "image") == 1


async def test_draining_agent_keeps_nothing_of_an_image(client, sdk, tmp_path):
    await client.turns.drain(0)
    with pytest.raises(openai.InternalServerError):
        await ask(sdk.with_options(max_retries=0), question(url(png(1))))
    await until(lambda: not kept(client, "file"))
    assert received(tmp_path) == []


async def test_earlier_images_are_told_of_in_words(sdk, libertai):
    before = question(url(png(1)), words="What is it?")
    await ask(sdk, before, {"role": "assistant", "content": "Soup."}, question(url(png(2)), words="And this?"))
    [call] = await libertai.calls()
    assert shown(call) == [[], [png(2)]]
    assert call.messages[0]["content"].startswith("What is it?\n[An image was here.")


async def test_model_that_cannot_see_is_told(agents, libertai):
    async with sdk_of(await agents(agent_vision=False)) as sdk:
        await ask(sdk, question(url(png(1))))
    content = (await libertai.calls())[0].messages[0]["content"]
    assert f"image/png, {len(png(1))} bytes. {BLIND}]" in content


async def test_ten_images_of_the_largest_are_taken_and_the_last_four_shown(sdk, libertai, tmp_path):
    large = [url(png(number) + bytes(MAX_BYTES - len(png(number)))) for number in range(6)]
    small = [png(number) for number in range(6, 10)]
    assert await ask(sdk, question(*large, *map(url, small)), user="c1")
    [call] = await libertai.calls()
    assert shown(call) == [small]
    assert sorted(map(len, received(tmp_path)))[4:] == [MAX_BYTES] * 6
    assert text_of(call.messages[0]["content"]).count("[Attached file: ") == 10


@pytest.mark.parametrize(
    "bad",
    [
        (["https://example.org/a.png"], 1, "send a data: URL"),
        (["file:///etc/passwd"], 1, "send a data: URL"),
        ([""], 1, "send a data: URL"),
        (["data:image/svg+xml;base64,PHN2Zy8+"], 1, "send a data: URL"),
        (["data:image/png,abc"], 1, "send a data: URL"),
        (["data:image/png;base64,iVBOR"], 1, "no image in base64"),
        (["data:image/png;base64,é"], 1, "no image in base64"),
        ([url(png(1)), url(b"<svg/>")], 2, "no image in base64"),
        ([url(png(1) + bytes(MAX_BYTES))], 1, "may have 4 MB"),
        ([url(png(1) + bytes(MAX_BYTES - len(png(1)) + 1))], 1, "may have 4 MB"),
        ([url(png(1))] * 11, 11, "may have 10 images"),
    ],
)
@pytest.mark.parametrize("chat", [{}, {"user": "c1"}])
async def test_other_images_are_refused_by_name(client, libertai, chat, bad):
    images, at, words = bad
    async with sdk_of(client) as sdk:
        with pytest.raises(openai.BadRequestError, match=words) as refusal:
            await ask(sdk, question(*images), **chat)
    assert (refusal.value.code, refusal.value.param) == ("unsupported_content", f"messages[0].content[{at}]")
    assert await libertai.calls() == []
    assert kept(client, "file") == 0


@pytest.mark.parametrize("role", ["system", "assistant"])
async def test_only_people_send_images(sdk, role):
    said: Any = {"role": role, "content": [image(url(png(1)))]}
    with pytest.raises(openai.BadRequestError, match="`image_url`") as refusal:
        await ask(sdk, said, {"role": "user", "content": "And?"})
    assert (refusal.value.code, refusal.value.param) == ("unsupported_content", "messages[0].content[0]")


async def test_full_workspace_is_said(sdk, client, monkeypatch):
    async def full(*_: Any, **__: Any) -> bytes:
        raise NoRoom("There is no room for this file.")

    monkeypatch.setattr(Workspace, "give", full)
    with pytest.raises(openai.InternalServerError, match="There is no room") as refusal:
        await ask(sdk, question(url(png(1))))
    assert refusal.value.status_code == 507
