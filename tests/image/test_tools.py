"""The agent's tools in its container: behind the wall, and less of them for a visitor."""

import json

import httpx
import pytest

from tests.containers import KEY, SECRET, gateway
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Script, ToolCall

pytestmark = pytest.mark.image


@pytest.fixture
async def libertai(docker_client):
    async with LibertAIDouble(keys=[KEY], host=gateway(docker_client)) as double:
        yield double


@pytest.fixture
async def ask(boxes, libertai):
    """Asks the agent, whose model calls these tools one after the other; their results."""
    box = boxes.start({"LLM_BASE_URL": f"{libertai.url}/v1"})
    box.wait_healthy()

    async def asked(*calls, role="owner", chat="c"):
        scripts = [
            Script(text="", calls=[ToolCall(id=f"call_{number}", name=name, arguments=json.dumps(arguments))])
            for number, (name, arguments) in enumerate(calls)
        ]
        await libertai.script(*scripts, Script(text="Done."))
        async with httpx.AsyncClient(headers={"Authorization": f"Bearer {SECRET}"}, timeout=60) as client:
            answer = await client.post(f"{box.url()}/chat", json={"chat_id": chat, "message": "Do it.", "role": role})
        assert answer.status_code == 200, answer.text
        last = (await libertai.calls())[-1]
        results = [message["content"] for message in last.messages if message["role"] == "tool"]
        return results[-len(calls) :], {tool["function"]["name"] for tool in last.body["tools"]}

    return asked


async def test_the_owners_files_and_commands_are_in_one_workspace(ask):
    results, tools = await ask(
        ("write_file", {"path": "notes/a.md", "text": "one\ntwo\n"}),
        ("shell", {"command": "wc -l notes/a.md; id -u; env | grep -c -e SECRET -e KEY"}),
        ("edit_file", {"path": "notes/a.md", "old": "two", "new": "three"}),
        ("read_file", {"path": "notes/a.md"}),
        ("search_files", {"pattern": "thr.e"}),
        ("list_files", {}),
    )
    assert results[1].startswith("2 notes/a.md\n10003\n0\n")
    assert results[3] == "1\tone\n2\tthree"
    assert results[4] == "notes/a.md:2: three"
    assert "notes/a.md\t10" in results[5]
    assert "shell" in tools


async def test_a_visitor_has_no_shell_and_a_folder_of_their_own(ask):
    await ask(("write_file", {"path": "private.md", "text": "the owner's"}))
    results, tools = await ask(
        ("shell", {"command": "id"}),
        ("list_files", {}),
        ("read_file", {"path": "../../private.md"}),
        ("read_file", {"path": "/workspace/private.md"}),
        ("write_file", {"path": "mine.md", "text": "the visitor's"}),
        ("list_files", {}),
        role="visitor",
        chat="visitor-7",
    )
    assert "There is no tool 'shell'" in results[0]
    assert results[1] == "Nothing is there yet."
    assert all("the owner's" not in result for result in results)
    assert "outside of your folder" in results[2]
    assert "mine.md" in results[5]
    assert "shell" not in tools
    others, _ = await ask(("list_files", {}), role="visitor", chat="visitor-8")
    assert others == ["Nothing is there yet."]


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("sleep 100", "stopped after 1 s"),
        ("yes", "stopped: it wrote too much"),
        ("exit 3", "[exit code 3]"),
        ("true", "[no output]"),
        ("cat /data/agent.db /proc/1/environ", "denied"),
    ],
)
async def test_a_command_that_goes_wrong_says_how(ask, command, says):
    results, _ = await ask(("shell", {"command": command, "seconds": 1}))
    assert says in results[0]
