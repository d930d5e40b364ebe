"""The workspace where there is no container: plain processes, and less that a model may do."""

import asyncio
import os
import signal
import time

import psutil
import pytest

from agent.local import LocalRunner
from agent.policy import may
from agent.protocol import Role
from agent.sandbox.quota import Quota
from agent.sandbox.wire import Request
from tests.agent.conftest import KEY, SECRET, answer
from tests.fakes.libertai_sim import Call, Script, ToolCall


@pytest.fixture
def runner(tmp_path):
    return LocalRunner(tmp_path / "workspace")


def bash(script: str, seconds: float = 20) -> Request:
    return Request(["bash", "-c", script], seconds=seconds)


def is_running(words: str) -> bool:
    """Whether a process with this in its command line lives."""
    return any(
        words in " ".join(process.info["cmdline"] or []) and process.info["status"] != psutil.STATUS_ZOMBIE
        for process in psutil.process_iter(["cmdline", "status"])
    )


# Running


async def test_program_runs_in_its_folder_with_its_input(runner, tmp_path):
    output = await runner.run(Request(["bash", "-c", "pwd; cat; echo oops >&2; exit 3"], "visitors/v1"), b"soup\n")
    assert output.data.decode() == f"{tmp_path}/workspace/visitors/v1\nsoup\noops\n"
    assert (output.result.ended, output.result.code, output.truncated) == ("exit", 3, False)


async def test_environment_is_clean(runner, monkeypatch):
    monkeypatch.setenv("LLM_API_KEY", KEY)
    monkeypatch.setenv("AGENT_SECRET", SECRET)
    output = await runner.run(bash("env"))
    names = {line.partition("=")[0] for line in output.data.decode().splitlines()}
    assert names <= {"PATH", "LANG", "TZ", "HOME", "WORKSPACE", "PWD", "SHLVL", "_"}
    assert KEY not in output.data.decode()


async def test_much_goes_in_while_much_comes_out(runner):
    content, came = os.urandom(3_000_000), bytearray()

    async def chunks():
        for start in range(0, len(content), 100_000):
            yield content[start : start + 100_000]

    result = await runner.stream_out(bash("cat; exit 4"), came.extend, chunks())
    assert (bytes(came), result.code) == (content, 4)


async def test_what_takes_too_long_is_stopped_with_all_it_started(runner):
    begun = time.monotonic()
    output = await runner.run(bash("echo begun; sleep 98.7631 & sleep 98.7632", seconds=0.5))
    assert (output.data, output.result.ended, output.result.text) == (b"begun\n", "timeout", "stopped after 0 s")
    assert time.monotonic() - begun < 60
    assert not is_running("98.763")


async def test_what_writes_too_much_is_stopped(runner):
    output = await runner.run(bash("yes"), limit=1_000)
    assert (len(output.data), output.truncated) == (1_000, True)


async def test_what_is_left_in_the_background_ends_with_the_command(runner):
    begun = time.monotonic()
    output = await runner.run(bash("sleep 98.7641 & echo done"))
    assert (output.data, output.result.code) == (b"done\n", 0)
    assert time.monotonic() - begun < 60
    assert not is_running("98.7641")


async def test_what_has_left_the_group_keeps_nobody_waiting(runner, monkeypatch):
    monkeypatch.setattr("agent.local._LAST_WORDS_SECONDS", 0.1)
    begun = time.monotonic()
    output = await runner.run(bash("setsid sleep 98.7651 & echo $!; sleep 0.2; echo done"))
    number, done = output.data.split()
    os.kill(int(number), signal.SIGKILL)  # it lived on
    assert (done, output.result.code) == (b"done", 0)
    assert time.monotonic() - begun < 60


async def test_cancelled_call_ends_its_program(runner, tmp_path):
    running = asyncio.create_task(runner.run(bash("touch begun; sleep 98.7661")))
    while not (tmp_path / "workspace/begun").exists():
        await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert not is_running("98.7661")


async def test_program_that_reads_nothing_of_much_input_breaks_nothing(runner):
    assert (await runner.run(bash("echo done"), b"x" * 10_000_000)).data == b"done\n"


async def test_program_that_is_not_there_is_an_os_error(runner):
    with pytest.raises(OSError, match="no-such-program"):
        await runner.run(Request(["no-such-program"]))


async def test_input_that_breaks_is_raised_when_the_program_has_ended(runner, tmp_path):
    async def broken():
        yield b"half"
        raise LookupError

    with pytest.raises(LookupError):
        await runner.stream_in(bash("cat > got; touch ended"), broken())
    assert (tmp_path / "workspace/got").read_bytes() == b"half"
    assert (tmp_path / "workspace/ended").exists()


async def test_full_workspace_takes_no_stream(tmp_path):
    async def chunks():
        yield b"x"

    runner = LocalRunner(tmp_path, Quota(files=1))
    for name in ("a", "b"):
        (tmp_path / name).touch()
    output = await runner.stream_in(bash("cat > c"), chunks())
    assert (output.result.ended, "delete some" in output.result.text) == ("quota", True)
    assert not (tmp_path / "c").exists()


# What a model may do


def tools_of(call: Call) -> set[str]:
    return {tool["function"]["name"] for tool in call.body["tools"]}


@pytest.fixture
def do(libertai):
    """Has the model call a tool; the result."""

    async def done(client, name: str, *, role=Role.OWNER, chat="c1", **arguments) -> str:
        await libertai.script(Script(calls=[ToolCall(name=name, arguments=arguments)]), Script(text="Done."))
        assert answer(await client.events("Do it", role=role, chat_id=chat)) == "Done."
        return str((await libertai.calls())[-1].messages[-1]["content"])

    return done


async def test_files_that_came_are_read_listed_and_searched(client, do):
    await client.http.put("/files/c1/f1", params={"name": "a.txt", "role": "owner"}, content=b"one\nsoup\n")
    assert await do(client, "read_file", path="received/a.txt") == "1\tone\n2\tsoup"
    assert await do(client, "list_files") == "received/\nreceived/a.txt\t9"
    assert await do(client, "search_files", pattern="so.p") == "received/a.txt:2: soup"


async def test_nothing_is_run_or_written_unless_that_is_turned_on_and_the_model_knows_why(client, do, libertai):
    assert "There is no tool 'shell'" in await do(client, "shell", command="touch /tmp/x")
    assert "There is no tool 'write_file'" in await do(client, "write_file", path="a", text="x")
    call = (await libertai.calls())[0]
    assert tools_of(call).isdisjoint({"shell", "write_file", "edit_file"})
    assert "You cannot run commands or write files here: this agent runs without a container." in call.system
    assert "AGENT_UNCONFINED_TOOLS=true" in call.system


async def test_turned_on_the_owners_model_runs_and_writes(agents, do, libertai, tmp_path):
    client = await agents(agent_unconfined_tools=True)
    assert await do(client, "write_file", path="notes/a.md", text="one\n") == "Wrote 4 bytes to notes/a.md."
    assert await do(client, "edit_file", path="notes/a.md", old="one", new="two") == "Replaced 1 passage in notes/a.md."
    assert await do(client, "shell", command="cat notes/a.md; exit 3") == "two\n[exit code 3]"
    assert KEY not in await do(client, "shell", command="env; cat /proc/$PPID/environ")
    assert (tmp_path / "data/workspace/notes/a.md").read_text() == "two\n"
    assert "You cannot run commands" not in (await libertai.calls())[0].system


async def test_turned_on_a_visitors_model_only_reads(agents, do, libertai, tmp_path):
    client = await agents(agent_unconfined_tools=True)
    (tmp_path / "data/workspace").mkdir()
    (tmp_path / "data/workspace/plan.txt").write_text("secret plan")
    for name, arguments in (("shell", {"command": "id"}), ("write_file", {"path": "a", "text": "x"})):
        told = await do(client, name, role=Role.VISITOR, chat="v1", **arguments)
        assert f"There is no tool '{name}'" in told
    told = await do(client, "read_file", role=Role.VISITOR, chat="v1", path="../../plan.txt")
    assert "outside of your folder" in told
    assert tools_of((await libertai.calls())[0]) == {
        "ask", "remember", "forget", "recall", "remind", "reminders", "cancel_reminder", "load_skill",
        "read_file", "list_files", "search_files", "send_file",
    }  # fmt: skip


async def test_agents_own_database_is_out_of_the_reach_of_its_files(client, do, tmp_path):
    assert (tmp_path / "data/agent.db").exists()
    for path in ("../agent.db", str(tmp_path / "data/agent.db")):
        assert "SQLite" not in await do(client, "read_file", path=path)
        assert "SQLite" not in await do(client, "send_file", path=path)


async def test_agent_without_tools_is_told_nothing_about_them(agents, libertai):
    client = await agents(agent_tools=False)
    await client.events(role=Role.OWNER)
    assert "run commands" not in (await libertai.calls())[0].system


async def test_agent_in_a_container_is_told_nothing_about_it(agents, libertai, monkeypatch, tmp_path):
    (tmp_path / "launcher.sock").touch()
    monkeypatch.setattr("agent.equip.SOCKET", tmp_path / "launcher.sock")
    client = await agents()
    await client.events(role=Role.OWNER)
    call = (await libertai.calls())[0]
    assert "run commands" not in call.system
    assert "shell" in tools_of(call)


@pytest.mark.parametrize(
    ("role", "tool", "walled", "allowed"),
    [
        (Role.OWNER, "shell", False, True),  # once it is there: it is offered only when it is turned on
        (Role.VISITOR, "shell", True, False),
        (Role.VISITOR, "write_file", True, True),
        (Role.VISITOR, "write_file", False, False),
        (Role.VISITOR, "edit_file", False, False),
        (Role.VISITOR, "read_file", False, True),
        (Role.VISITOR, "send_file", False, True),
        (Role.VISITOR, "generate_image", True, False),
    ],
)
def test_policy(role, tool, walled, allowed):
    assert may(role, tool, walled=walled) is allowed


async def test_relative_data_folder_is_one_place(agents, monkeypatch, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    client = await agents(agent_data="data")
    response = await client.http.put("/files/c1/f1", params={"name": "a.txt", "role": "owner"}, content=b"x")
    assert response.status_code == 200
    assert (tmp_path / "elsewhere/data/workspace/received/a.txt").read_bytes() == b"x"
