"""An agent moves from one container to another: its conversation, and its files from behind one wall behind another."""

import json

import httpx
import pytest

from tests.containers import KEY, SECRET, gateway
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Script, ToolCall

pytestmark = pytest.mark.image
LISTING = "find . -printf '%p %y %m %l\\n' | sort; cat notes/*; stat -c %U notes"


@pytest.fixture
async def libertai(docker_client):
    async with LibertAIDouble(keys=[KEY], host=gateway(docker_client)) as double:
        yield double


async def test_everything_is_there_on_the_other_machine(boxes, libertai):
    thinks = {"LLM_BASE_URL": f"{libertai.url}/v1"}
    old, new = boxes.start(thinks), boxes.start({**thinks, "AGENT_MODE": "standby"})
    old.wait_healthy()
    new.wait_healthy()
    old.tool(
        "mkdir notes; echo one > notes/a.md; ln -s a.md notes/b; chmod 640 notes/a.md; mkdir shut; echo x > shut/x;"
        "chmod 500 shut; mkfifo pipe; touch gone; head -c 3000000 /dev/urandom > big"
    )
    # As long as a change now could have the time of one before, what is there goes again.
    old.tool("until [ $(date +%s) -gt $(($(stat -c %Z big) + 1)) ]; do sleep 0.1; done")
    big = old.tool("sha256sum big").output
    call = ToolCall(id="c1", name="remember", arguments=json.dumps({"note": "likes soup"}))
    await libertai.script(Script(text="", calls=[call]), Script(text="Noted."))
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}, timeout=60) as client:
        question = {"chat_id": "c", "message": "I like soup.", "role": "owner", "turn_id": "t1"}
        answer = (await client.post(f"{old.url()}/chat", json=question)).json()
        whole = await client.get(f"{old.url()}/snapshot")
        before = await client.put(f"{new.url()}/snapshot", content=whole.content)
        assert before.status_code == 200, before.text
        old.tool("echo two > notes/b2.md; chmod 700 shut; mv shut shut2; chmod 500 shut2; rm gone")
        sealed = await client.post(f"{old.url()}/seal", json={"epoch": 1})
        assert sealed.status_code == 200, sealed.text

        delta = await client.get(f"{old.url()}/snapshot", params={"base": before.json()["mark"]})
        assert len(delta.content) < 1_000_000 < len(whole.content)
        restored = await client.put(f"{new.url()}/snapshot", content=delta.content)
        assert restored.json()["fingerprint"] == sealed.json()["fingerprint"], restored.text
        assert (await client.post(f"{new.url()}/activate", json={"epoch": 1})).status_code == 204

        assert (await client.post(f"{new.url()}/chat", json=question)).json() == answer
        assert (await client.post(f"{old.url()}/chat", json=question | {"turn_id": "t2"})).status_code == 409
        await client.post(f"{new.url()}/chat", json=question | {"turn_id": "t2", "message": "What do I like?"})
    assert "likes soup" in str((await libertai.calls())[-1].messages)
    assert new.tool(LISTING).output == old.tool(f"rm -f pipe; {LISTING}").output
    assert "./shut2/x f" in new.tool(LISTING).output
    assert new.tool("sha256sum big").output == big


async def test_an_owners_files_and_standing_instructions_work_behind_the_wall(boxes, libertai):
    box = boxes.start({"LLM_BASE_URL": f"{libertai.url}/v1"})
    box.wait_healthy()
    box.tool("echo 'Answer in rhymes.' > AGENTS.md; echo 'The owner is Olga.' > MEMORY.md")
    send = ToolCall(id="c1", name="send_file", arguments=json.dumps({"path": "received/soup.txt"}))
    read = ToolCall(id="c2", name="read_file", arguments=json.dumps({"path": "received/soup.txt"}))
    await libertai.script(Script(text="", calls=[read]), Script(text="", calls=[send]), Script(text="Here."))
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}, timeout=60) as client:
        put = await client.put(
            f"{box.url()}/files/c/f1", params={"name": "soup.txt", "role": "owner"}, content=b"water, salt"
        )
        assert put.json()["path"] == "received/soup.txt", put.text
        question = {"chat_id": "c", "message": "Send it back.", "role": "owner", "attachments": [put.json()]}
        stream = await client.post(f"{box.url()}/chat", json=question, headers={"Accept": "text/event-stream"})
        events = [json.loads(line[5:]) for line in stream.text.splitlines() if line.startswith("data:")]
        (file,) = [event for event in events if event["type"] == "file"]
        sent = await client.get(f"{box.url()}/files/c/{file['id']}")
        assert (sent.content, file["name"], file["size"]) == (b"water, salt", "soup.txt", 11)
    first, second, *_ = await libertai.calls()
    assert "Answer in rhymes." in first.body["messages"][0]["content"]
    assert "The owner is Olga." in first.messages[-1]["content"]
    assert "water, salt" in second.messages[-1]["content"]
