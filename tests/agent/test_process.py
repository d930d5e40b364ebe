"""The agent as a process: how it starts, refuses to start, stops, and dies."""

import asyncio
import re
import signal
import socket
import sys
from pathlib import Path

import pytest

from agent.protocol import Done, ErrorKind, Restart, Text
from bot.machines.client import KEPT_SECONDS
from tests.agent.conftest import SECRET, answer, as_written, next_of
from tests.fakes.libertai_sim import Script

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parent.parent.parent


async def test_killed_agent_says_that_it_was_interrupted_and_runs_the_turn_again(process, libertai):
    client = await process.start()
    await client.events("before", chat_id="c1", turn_id="t0")
    await libertai.script(Script(text="one two three", hold_after=1), Script(text="whole answer"))
    async with client.stream("question", turn_id="t1") as events:
        seen = await next_of(events, Text)
        process.signal(signal.SIGKILL)
        assert await process.ended() == -signal.SIGKILL
    client = await process.start()
    [failed] = await client.events("question", turn_id="t1", after=seen.seq)
    assert (failed.kind, failed.retryable, failed.seq > seen.seq) == (ErrorKind.INTERRUPTED, True, True)
    again = await client.events("question", turn_id="t1", after=failed.seq, retry=True)
    assert again[0] == Restart(seq=failed.seq + 1)
    assert answer(again) == "whole answer"
    last = (await libertai.calls())[-1]
    assert [message["role"] for message in last.messages] == ["user", "assistant", "user"]
    assert as_written(last.messages)[2]["content"] == "question"


async def test_told_to_stop_it_ends_its_turns_and_exits_with_0(process, libertai):
    client = await process.start()
    await libertai.script(Script(text="one two", hold_after=1))
    async with client.stream() as events:
        await next_of(events, Text)
        process.signal(signal.SIGTERM)
        await libertai.release()
        assert isinstance([event async for event in events][-1], Done)
    assert await process.ended() == 0


async def test_told_to_stop_it_interrupts_turns_that_do_not_end(process, environment, libertai):
    environment["AGENT_DRAIN_SECONDS"] = "0.05"
    client = await process.start()
    await libertai.script(Script(text="one two", hold_after=1))
    async with client.stream() as events:
        await next_of(events, Text)
        process.signal(signal.SIGTERM)
        assert [event async for event in events][-1].kind is ErrorKind.INTERRUPTED
    assert await process.ended() == 0


async def refused(environment: dict[str, str]) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent", env=environment, stderr=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(30):
        _, errors = await process.communicate()
    return process.returncode, errors.decode()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"AGENT_NAME": None, "AGENT_SECRET": "", "LLM_API_KEY": "two words"}, "AGENT_SECRET: is missing"),
        ({"AGENT_DATA": "/proc/nowhere"}, "AGENT_DATA"),
        ({"AGENT_FD": "999"}, "AGENT_FD"),
    ],
)
async def test_bad_settings_are_one_line_and_exit_code_78(environment, changes, named):
    for name, value in changes.items():
        environment[name] = value or ""
    code, errors = await refused(environment)
    assert code == 78
    assert errors.count("\n") == 1
    assert named in errors
    assert SECRET not in errors
    assert "two words" not in errors


async def test_port_in_use_is_one_line_and_exit_code_78(environment):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        environment["AGENT_PORT"] = str(taken.getsockname()[1])
        code, errors = await refused(environment)
    assert code == 78
    assert errors.startswith("agent: AGENT_HOST, AGENT_PORT: cannot listen on 127.0.0.1:")


def test_kept_connections_end_at_the_other_end_first():
    # As text: to import it is to leave things out that tests need (agent.lean).
    [ours] = re.findall(r"^_IDLE_SECONDS = (\d+)$", (ROOT / "agent" / "__main__.py").read_text(), re.MULTILINE)
    kept = [int(number) for number in re.findall(r"keepalive (\d+)s", (ROOT / "Caddyfile.tmpl").read_text())]

    assert int(ours) > max(*kept, KEPT_SECONDS)
