"""People see what an agent is doing while it does it: the whole bot in front of an agent that a test speaks for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from agent.protocol import Done, Text, Tool, ToolState, Usage
from bot.app import build
from bot.settings import Settings, read_settings
from bot.store.folder import sole_owner
from scripts.demo_check import make_agent
from tests.e2e.conftest import OPERATOR_KEY, environment
from tests.fakes.agent import AgentDouble, AgentDoubleEngine
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.telegram_client import SimUser, TelegramDouble, TelegramSim

pytestmark = pytest.mark.e2e

DONE = Done(seq=0, usage=Usage(tool_calls=2))
HOSTILE = "Reading <b>**x**</b> &lt; `y`\u202e\n" + "🙂" * 300


def text(words: str) -> Text:
    return Text(seq=0, text=words)


def tool(name: str, state: ToolState = ToolState.RUNNING, label: str | None = None) -> Tool:
    return Tool(seq=0, id=name, name="read_file", label=label or f"Reading {name}", state=state)


@dataclass
class Stage:
    """A bot's settings, and the doubles around it."""

    telegram: TelegramSim
    agent: AgentDouble
    settings: Settings
    link: str = ""

    async def talking(self) -> SimUser:
        """An owner who has asked their agent something."""
        owner = await self.telegram.user(name="Olga")
        self.link = await make_agent(owner, name="Ada", job="Answer briefly.")
        await owner.press("Chat")
        await owner.wait_for("You are talking to your agent")
        await owner.send("Look it up.")
        await self.agent.until_asked(1)
        return owner


@asynccontextmanager
async def running_bot(settings: Settings) -> AsyncIterator[None]:
    """One life of the bot."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        stack.enter_context(sole_owner(settings.data_dir))
        front = await build(settings, stack)
        running = asyncio.create_task(front.run_until(stop))
        try:
            yield
        finally:
            stop.set()
            await running


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    agent = AgentDouble()
    monkeypatch.setattr("bot.app.open_engine", AsyncMock(return_value=AgentDoubleEngine(agent)))
    async with TelegramDouble() as telegram, LibertAIDouble(keys=[OPERATOR_KEY]) as libertai:
        values = {name.lower(): value for name, value in environment(telegram, libertai, tmp_path).items()}
        await agent.start()
        yield Stage(telegram, agent, read_settings(**values))
        refused = await telegram.refusals()
        await agent.stop()
    assert refused == []


async def test_what_is_done_is_shown_while_it_is_done(stage):
    async with running_bot(stage.settings):
        owner = await stage.talking()

        stage.agent.say(tool("notes.md"))
        first = await owner.wait_for("📄 Reading notes.md…", button="Stop")
        stage.agent.say(tool("other", label=HOSTILE))
        hostile = await owner.wait_for("(+1)")
        stage.agent.say(tool("other", ToolState.DONE, HOSTILE), text("I have found it."))
        under = await owner.wait_for("I have found it.")
        stage.agent.say(tool("notes.md", ToolState.FAILED), text("\n\nIt is soup."), DONE)
        answer = await owner.wait_whole()

    assert first.text == "📄 Reading notes.md…"
    assert hostile.text == "📄 Reading <b>**x**</b> &lt; `y` " + "🙂" * 15 + "… (+1)"
    assert [entity["type"] for entity in hostile.entities] == ["italic"]
    assert under.text == "I have found it.\n\n📄 Reading notes.md…"
    assert (answer.id, answer.text, answer.entities) == (first.id, "I have found it.\n\nIt is soup.", [])


async def test_what_is_done_is_shown_again_after_the_bot_was_restarted_and_the_stream_was_cut(stage):
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stage.agent.say(text("Let me look."), tool("a.md"))
        await owner.wait_for("📄 Reading a.md…")
        stage.agent.say(tool("b.md"))  # only an edit shows that the bot has written down which message it sent
        first = await owner.wait_for("📄 Reading b.md… (+1)")
    stage.agent.say(tool("b.md", ToolState.DONE), tool("c.md"))

    async with running_bot(stage.settings):
        again = await owner.wait_for("📄 Reading c.md… (+1)")
        stage.agent.cut()
        attached = await stage.agent.until_asked(3)
        stage.agent.say(tool("c.md", ToolState.DONE))
        left = await owner.wait_for("📄 Reading a.md…")
        stage.agent.say(tool("a.md", ToolState.DONE), text(" Done."), DONE)
        answer = await owner.wait_whole()

    assert [request.after for request in stage.agent.asked] == [0, 0, 5]
    assert attached.turn_id == stage.agent.asked[0].turn_id
    assert {first.id, again.id, left.id} == {answer.id}
    assert left.text == "Let me look.\n\n📄 Reading a.md…"
    assert answer.text == "Let me look. Done."


@pytest.mark.parametrize(
    ("changes", "tools"),
    [
        ({}, "true"),
        ({"agent_tools": "false"}, "false"),
        ({"llm_base_url": "http://127.0.0.1:1/v1"}, "false"),
        ({"llm_base_url": "http://127.0.0.1:1/v1", "agent_tools": "true"}, "true"),
    ],
)
async def test_an_agent_is_told_whether_it_has_tools(stage, changes, tools):
    settings = Settings.model_validate(stage.settings.model_dump() | changes)
    async with running_bot(settings):
        owner = await stage.telegram.user(name="Olga")
        await make_agent(owner, name="Ada", job="Answer briefly.")

    assert stage.agent.spec is not None
    assert stage.agent.spec.environment()["AGENT_TOOLS"] == tools
