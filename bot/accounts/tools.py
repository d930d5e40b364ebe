"""Whether an agent gets tools: a model that cannot call any is confused by them, or its server refuses the request."""

from dataclasses import dataclass

from bot.accounts.libertai import LibertAI


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """What the operator says, then the catalogue, then `is_default`."""

    libertai: LibertAI
    is_allowed: bool = True
    """False: no agent has tools."""
    is_default: bool = True
    """For models that the catalogue does not know."""

    async def known(self, model: str) -> bool | None:
        """Whether agents with this model have tools, as far as somebody says; None if nobody does."""
        return await self.libertai.can_call_tools(model) if self.is_allowed else False

    async def decide(self, model: str) -> bool:
        """Whether an agent with this model gets tools."""
        known = await self.known(model)
        return self.is_default if known is None else known
