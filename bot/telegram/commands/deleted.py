"""🗑 in the list: deleted agents that can still be brought back."""

import datetime as dt

from bot.accounts.agents import Card
from bot.telegram.context import Context
from bot.telegram.keyboards import Pressed, Verb, button, rows
from bot.telegram.screen import Screen


async def show(context: Context) -> None:
    """A button for each, in place of the list."""
    say, deleted = context.say, await context.services.deleted.of(context.user.id)
    lines = [
        [button(say.plain("bin-item", name=each.agent.name, day=_day(each.until)), Verb.UNDELETE, each.agent.id or 0)]
        for each in deleted
    ]
    text = say("bin-list") if deleted else say("bin-empty")
    await context.show(Screen(text, rows(*lines, [button(say.plain("back"), Verb.LIST)])))


async def bring_back(context: Context, pressed: Pressed) -> None:
    """♻: want it again; the message becomes the card that shows how it comes back. Pressed again, it goes on."""
    number, card = pressed.number or 0, Card(context.chat.id, context.pressed_id or 0)
    is_wanted = await context.services.deleted.bring_back(number, context.user.id, card)
    mine = {agent.id for agent in await context.services.agents.owned(context.user.id)}
    if is_wanted or number in mine:
        await context.services.fleet.nudge(number)
        return
    await show(context)


def _day(at: float) -> str:
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d")
