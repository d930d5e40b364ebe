"""The tool that makes images, against LibertAI's double."""

import base64
import json

import pytest

from agent import painter
from agent.protocol import File, Role, Tool, ToolState
from agent.settings import Settings
from tests.agent.conftest import KEY, answer
from tests.fakes.libertai_images import png
from tests.fakes.libertai_sim import Call, Found, Script, ToolCall


@pytest.fixture
async def client(agents):
    return await agents(agent_image_model="z-image-turbo")


@pytest.fixture
def paint(client, libertai):
    """Has the model call `generate_image`; all events, and what the model was told."""

    async def painted(**arguments):
        call = ToolCall(name="generate_image", arguments={"prompt": "a bowl of soup"} | arguments)
        await libertai.script(Script(calls=[call]), Script(text="Here."))
        events = await client.events("Paint soup", role=Role.OWNER)
        assert answer(events) == "Here."
        results = [message for message in (await libertai.calls())[-1].messages if message["role"] == "tool"]
        return events, results[-1]["content"]

    return painted


def b64(data: bytes) -> str:
    return json.dumps({"data": [{"b64_json": base64.b64encode(data).decode()}]})


def offered(call: Call) -> set[str]:
    return {tool["function"]["name"] for tool in call.body["tools"]}


async def test_image_is_made_kept_and_sent(paint, client, libertai, tmp_path):
    events, told = await paint()
    [file] = [event for event in events if isinstance(event, File)]
    assert (file.name, file.media_type, file.size) == ("a bowl of soup.png", "image/png", len(png()))
    assert told == "Made and sent images/a bowl of soup.png."
    assert (tmp_path / "data/workspace/images/a bowl of soup.png").read_bytes() == png()
    assert (await client.http.get(f"/files/c1/{file.id}")).content == png()
    [asked] = await libertai.asked()
    assert asked.body == {"model": "z-image-turbo", "prompt": "a bowl of soup", "size": "1024x1024"}
    assert [event.label for event in events if isinstance(event, Tool)] == ["Making an image"] * 2


async def test_images_of_one_name_do_not_replace_each_other(paint, tmp_path):
    for name in ("soup", "soup.png", "../so/up", "  "):
        await paint(name=name)
    there = sorted(place.name for place in (tmp_path / "data/workspace/images").iterdir())
    assert there == ["-so-up.png", "image.png", "soup (2).png", "soup.png"]


async def test_suffix_is_that_of_what_was_made(paint, libertai):
    await libertai.find(Found(body=b64(b"\xff\xd8\xff\xe0 photo")))
    events, _ = await paint(name="soup.png")
    [file] = [event for event in events if isinstance(event, File)]
    assert file.media_type == "image/jpeg"
    assert file.name.endswith(".jpeg")


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (Found(status=401), "does not accept this agent's key"),
        (Found(status=402), "wants to be paid"),
        (Found(status=403), "no allowance left"),
        (Found(status=404), "no such model"),
        (Found(status=429), "overloaded"),
        (Found(status=500), "HTTP 500"),
        (Found(status=503), "HTTP 503"),
        (Found(body="<html>"), "no image"),
        (Found(body="[]"), "no image"),
        (Found(body='{"data": []}'), "no image"),
        (Found(body='{"data": [{"b64_json": null}]}'), "no image"),
        (Found(body='{"data": [{"b64_json": "not base64!"}]}'), "no image"),
        (Found(body='{"data": [{"b64_json": "é"}]}'), "no image"),
        (Found(body=b64(b"<svg/>")), "no image"),
        (Found(body=b64(b"")), "no image"),
    ],
)
async def test_what_goes_wrong_is_told_to_the_model(paint, libertai, tmp_path, found, says):
    await libertai.find(found)
    events, told = await paint()
    assert says in told
    assert KEY not in told
    assert [event for event in events if isinstance(event, File)] == []
    assert [event.state for event in events if isinstance(event, Tool)] == [ToolState.RUNNING, ToolState.FAILED]
    assert not (tmp_path / "data/workspace/images").exists()


async def test_image_too_big_is_refused(paint, libertai, monkeypatch):
    monkeypatch.setattr(painter, "_TEXT_BYTES", 1_000)
    await libertai.find(Found(body=b64(png() + bytes(2_000))))
    _, told = await paint()
    assert "more than 20 MB" in told


async def test_service_that_cannot_be_reached_is_told(agents, libertai, monkeypatch):
    client = await agents(agent_image_model="z-image-turbo")
    monkeypatch.setattr(painter, "SECONDS", 0.001)
    await libertai.find(Found(hold=True))
    await libertai.script(
        Script(calls=[ToolCall(name="generate_image", arguments={"prompt": "x"})]), Script(text="No.")
    )
    await client.events("Paint", role=Role.OWNER)
    assert "cannot be reached" in (await libertai.calls())[-1].messages[-1]["content"]


@pytest.mark.parametrize("prompt", ["", " ", "x" * 5_000])
async def test_prompt_that_is_none_is_not_asked_for(paint, libertai, prompt):
    _, told = await paint(prompt=prompt)
    assert "1 to 4000 characters" in told
    assert await libertai.asked() == []


async def test_visitor_makes_no_images_for_the_owners_money(client, libertai):
    await libertai.script(
        Script(calls=[ToolCall(name="generate_image", arguments={"prompt": "x"})]), Script(text="No.")
    )
    await client.events("Paint", role=Role.VISITOR)
    await client.events("Paint", role=Role.OWNER, chat_id="c2")
    visited, answered, owned = await libertai.calls()
    assert "generate_image" not in offered(visited)
    assert "generate_image" in offered(owned)
    assert "There is no tool 'generate_image'" in answered.messages[-1]["content"]
    assert await libertai.asked() == []


@pytest.mark.parametrize(
    ("base_url", "chosen", "model"),
    [
        ("https://api.libertai.io/v1", "", "z-image-turbo"),
        ("https://api.libertai.io/v1", "qwen-image", "qwen-image"),
        ("http://localhost:8000/v1", "", ""),
        ("http://localhost:8000/v1", "my-images", "my-images"),
    ],
)
def test_libertai_has_a_model_for_images_and_others_must_be_told(settings, base_url, chosen, model):
    made: Settings = settings(llm_base_url=base_url, agent_image_model=chosen)
    assert made.image_model == model


async def test_without_a_model_for_images_there_is_no_such_tool(agents, libertai):
    client = await agents()
    await client.events("Paint", role=Role.OWNER)
    assert "generate_image" not in offered((await libertai.calls())[0])
