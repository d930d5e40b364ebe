"""LibertAI's double, asked for images and shown some: as strict as the real one."""

import base64

import httpx
import pytest

from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_images import MAX_IMAGES, png

MODEL = "qwen3.6-35b-a3b"
URL = f"data:image/png;base64,{base64.b64encode(png()).decode()}"


@pytest.fixture
async def http():
    async with (
        LibertAIDouble(keys=["LTAI_x"]) as double,
        httpx.AsyncClient(base_url=double.base_url, headers={"Authorization": "Bearer LTAI_x"}) as client,
    ):
        yield client


async def test_image_is_a_png_in_base64(http):
    answer = await http.post("/images/generations", json={"model": "z-image-turbo", "prompt": "soup"})
    assert base64.b64decode(answer.json()["data"][0]["b64_json"]) == png()


@pytest.mark.parametrize(
    ("changes", "status"),
    [({"model": "gpt"}, 404), ({"prompt": " "}, 422), ({"size": "1x1"}, 422), ({"style": "vivid"}, 422)],
)
async def test_wrong_request_for_an_image_is_refused(http, changes, status):
    body = {"model": "z-image-turbo", "prompt": "soup", "size": "1024x1024"} | changes
    assert (await http.post("/images/generations", json=body)).status_code == status


async def test_no_key_must_pay_and_a_wrong_one_is_unknown(http):
    body = {"model": "z-image-turbo", "prompt": "soup"}
    assert (await http.post("/images/generations", json=body, headers={"Authorization": ""})).status_code == 402
    assert (await http.post("/images/generations", json=body, headers={"Authorization": "Bearer y"})).status_code == 401


def image(url: str):
    return {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([image(URL)] * MAX_IMAGES, 200),
        ([image(URL)] * (MAX_IMAGES + 1), 400),
        ([image("https://soup.example/a.png")], 400),
        ([image("data:image/png;base64,????")], 400),
        ([image(URL.replace("png", "jpeg"))], 400),
        ([{"type": "video_url"}], 400),
    ],
)
async def test_parts_of_a_message_are_judged(http, parts, status):
    body = {"model": MODEL, "messages": [{"role": "user", "content": [{"type": "text", "text": "What?"}, *parts]}]}
    assert (await http.post("/chat/completions", json=body)).status_code == status
