"""The attacks once more, by an agent whose model has gone bad: what it runs comes from its `shell` tool."""

import asyncio
import json
import re
import shlex

import httpx
import pytest

from tests.containers import KEY, SECRET, Box, Ran, boxes_of, gateway
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_sim import Script, ToolCall
from tests.image import test_attacks as attacks

pytestmark = pytest.mark.image

test_a_tool_is_nobody = attacks.test_a_tool_is_nobody
test_memory_and_environment = attacks.test_the_memory_and_environment_of_the_others_are_closed
test_arguments = attacks.test_no_secret_stands_in_an_argument
test_secrets = attacks.test_the_secrets_are_nowhere_to_be_found
test_agents_files = attacks.test_the_agents_files_cannot_be_read
test_agents_program = attacks.test_the_agents_program_is_hidden_where_the_kernel_can
test_writing = attacks.test_nothing_outside_the_workspace_can_be_written
test_sockets = attacks.test_the_sockets_of_the_agent_and_the_launcher_stay_shut
test_docker_socket = attacks.test_there_is_no_docker_socket
test_users = attacks.test_becoming_another_user_is_refused
test_killing = attacks.test_killing_the_others_is_refused
test_system_calls = attacks.test_privileged_system_calls_are_refused
test_fork_bomb = attacks.test_a_fork_bomb_ends_and_the_next_call_works
test_background = attacks.test_what_was_left_in_the_background_is_gone
test_memory = attacks.test_memory_runs_out_for_the_tool_alone
test_many_processes = attacks.test_many_processes_cannot_use_up_the_containers_memory
test_file_size = attacks.test_a_file_has_an_end
test_core = attacks.test_no_core_is_dumped
test_links = attacks.test_links_lead_nowhere
test_shared_memory = attacks.test_shared_memory_is_small_and_its_own
test_temporary_folder = attacks.test_the_temporary_folder_fills_up_for_tools_alone
test_ports = attacks.test_no_port_of_the_container_listens_to_it
test_web_ports = attacks.test_only_web_ports_can_be_connected_to
test_own_door = attacks.test_the_agent_over_its_own_door_wants_the_secret
test_docker_facts = attacks.test_what_docker_knows_of_the_container_does_not_reach_it


class Possessed(Box):
    """A container whose tool calls are made by its agent's model."""

    def __init__(self, box: Box, runner: asyncio.Runner, libertai: LibertAIDouble) -> None:
        super().__init__(box.container)
        self._runner = runner
        self._libertai = libertai

    def tool(self, *command: str, seconds: float = 20, folder: str = ".") -> Ran:
        """One turn of a chat of its own, in which the model runs this."""
        script = command[0] if len(command) == 1 else shlex.join(command)
        with self.beside_others():
            said = self._runner.run(self._turn(f"cd {folder} && {{ {script}\n}}" if folder != "." else script, seconds))
        *_, notes = said.partition("\n[exit code ")
        code = re.match(r"\d+", notes)
        ended = int(code[0]) if code else 137 if "\n[stopped" in said else 0
        return Ran(ended, said.removesuffix("[no output]") + "\n", said)

    async def _turn(self, script: str, seconds: float) -> str:
        call = ToolCall(id="call_1", name="shell", arguments=json.dumps({"command": script, "seconds": seconds}))
        await self._libertai.script(Script(text="", calls=[call]), Script(text="Done."))
        headers = {"Authorization": f"Bearer {SECRET}"}
        asked = {"chat_id": "attack", "message": "Break out.", "role": "owner"}
        async with httpx.AsyncClient(headers=headers, timeout=120) as client:
            answer = await client.post(f"{self.url()}/chat", json=asked)
            assert answer.status_code == httpx.codes.OK, answer.text
            said = (await self._libertai.calls())[-1].messages
            await client.delete(f"{self.url()}/chat/attack")
        return str([message["content"] for message in said if message["role"] == "tool"][-1])


@pytest.fixture(scope="module")
def box(docker_client, agent_image):
    """One running container, its agent, and the model that it listens to."""
    with asyncio.Runner() as runner:
        libertai = LibertAIDouble(keys=[KEY], host=gateway(docker_client))
        runner.run(libertai.__aenter__())
        for made in boxes_of(docker_client):
            running = made.start({"LLM_BASE_URL": f"{libertai.url}/v1"})
            running.wait_healthy()
            yield Possessed(running, runner, libertai)
        runner.run(libertai.__aexit__(None, None, None))
