"""What an agent is started with: its row, its owner's key, what its model can do."""

from dataclasses import dataclass

from pydantic import SecretStr

from bot.accounts.agents import Agents
from bot.accounts.libertai import LibertAI
from bot.accounts.tools import ToolPolicy
from bot.accounts.users import Users
from bot.fleet.books import Books
from bot.machines.engine import Spec


@dataclass(frozen=True, slots=True)
class Inference:
    """What agents think with, unless their owner lends a key, and how often unasked."""

    base_url: str
    api_key: SecretStr
    context_tokens: int = 11_000
    max_tokens: int = 4_096
    heartbeat_minutes: int = 0


class Specs:
    """Puts them together."""

    def __init__(
        self, books: Books, agents: Agents, users: Users, *, libertai: LibertAI, tools: ToolPolicy, inference: Inference
    ) -> None:
        self._books = books
        self._agents = agents
        self._users = users
        self._libertai = libertai
        self._tools = tools
        self._inference = inference

    async def of(self, agent_id: int, release: str) -> Spec:
        """Of this agent as it is wanted now, with this release."""
        # Before the row: what is changed in between is brought to it by a call, whose version is then higher.
        version = await self._books.config_version(agent_id)
        agent = await self._books.agent(agent_id)
        own_key = await self._users.key(agent.owner_id)
        model = await self._libertai.resolve(agent.model)
        return Spec(
            release=release,
            name=agent.name,
            job=agent.job,
            model=model,
            secret=self._agents.secret(agent),
            llm_base_url=self._inference.base_url,
            llm_api_key=own_key or self._inference.api_key,
            context_tokens=self._inference.context_tokens,
            max_tokens=self._inference.max_tokens,
            heartbeat_minutes=self._inference.heartbeat_minutes,
            tools=await self._tools.decide(model),
            # An image that a model cannot read breaks its conversation: only where somebody says that it can.
            vision=await self._libertai.can_see(model) or False,
            config_version=version,
        )
