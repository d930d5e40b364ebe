"""💤 on an agent's card: how long it may be idle before it falls asleep. Pressed, it is saved."""

from dataclasses import replace

from bot.store.models import Agent
from bot.telegram import idle
from bot.telegram.commands import agents
from bot.telegram.context import Context
from bot.telegram.keyboards import Pressed


async def ask(context: Context, agent: Agent) -> None:
    """The choices, in place of the card."""
    await context.show(idle.question(agent, context.say, usual=context.services.idle_minutes))


async def choose(context: Context, pressed: Pressed) -> bool:
    """One of them; False if it is none of ours, or the agent is not theirs."""
    number, _, choice = pressed.argument.partition(".")
    agent = await agents.owned(context, replace(pressed, argument=number))
    if agent is None or choice not in idle.CHOICES:
        return False
    await context.services.agents.sleep_after(agent.id or 0, idle.CHOICES[choice])
    await agents.show_card(context, await context.services.agents.get(agent.id or 0) or agent)
    return True
