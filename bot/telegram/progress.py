"""The deployment card: what an agent's row says, as a screen. No network, no clock."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from telegram import CopyTextButton, InlineKeyboardButton, InlineKeyboardMarkup

from bot.store.models import Agent, Phase
from bot.telegram.keyboards import DANGER, SUCCESS, Verb, button, rows
from bot.telegram.screen import Screen
from bot.telegram.texts import Speech

STEPS = (Phase.RENTING, Phase.REACHING, Phase.PREPARING, Phase.STARTING, Phase.RESTORING, Phase.PROVING)
ENDS = {Phase.RUNNING, Phase.ASLEEP, Phase.FAILED, Phase.GONE}


@dataclass(frozen=True, slots=True)
class Facts:
    """What a card tells besides the agent's row."""

    username: str
    """Of the bot, for links."""
    now: float
    is_machine_gone: bool = False
    """Every machine it had is known to be given back."""
    stopped_at: float | None = None
    """When the last of them was; None if it never had one."""


def progress(agent: Agent, say: Speech, facts: Facts) -> Screen:
    """The screen of this moment."""
    match agent.phase:
        case Phase.RUNNING | Phase.UPDATING:
            return _live(agent, say, facts)
        case Phase.DOZING | Phase.ASLEEP:
            return Screen(say("asleep", name=agent.name), _way_on(agent, say))
        case Phase.FAILED:
            return _failed(agent, say, facts)
        case Phase.DELETING:
            return Screen(say("deleting", name=agent.name))
        case Phase.GONE:
            return Screen(say("gone", name=agent.name, time=_clock(facts.stopped_at or facts.now), kept=kept(agent)))
        case _:
            return _deploying(agent, say, facts)


def kept(agent: Agent) -> str:
    """Whether there is anything to keep of it when it is deleted: a new agent knows nothing yet."""
    return "no" if agent.ready_at is None else "yes"


def link(agent: Agent, username: str) -> str:
    """The deep link that opens an agent."""
    return f"t.me/{username}?start=agent_{agent.link}"


def link_buttons(agent: Agent, say: Speech, username: str) -> list[InlineKeyboardButton]:
    """Copy the link, share the link."""
    url = f"https://{link(agent, username)}"
    share = f"https://t.me/share/url?url={quote(url, safe='')}&text={quote(agent.name)}"
    return [
        InlineKeyboardButton(say.plain("copy-link"), copy_text=CopyTextButton(url)),
        InlineKeyboardButton(say.plain("share"), url=share),
    ]


def _deploying(agent: Agent, say: Speech, facts: Facts) -> Screen:
    elapsed = max(int(facts.now - agent.deploy_started_at), 0)
    key = "deploying" if agent.ready_at is None else "bringing-back"
    text = say(key, name=agent.name, elapsed=f"{elapsed // 60}:{elapsed % 60:02}", steps=_steps(agent, say))
    if agent.error_code:
        text += "\n" + say("trying-again", code=agent.error_code)
    return Screen(text)


def _steps(agent: Agent, say: Speech) -> str:
    # A new agent has no past to bring back, unless it is just being given one.
    has_past = agent.ready_at is not None or agent.phase is Phase.RESTORING
    steps = [step for step in STEPS if has_past or step is not Phase.RESTORING]
    reached = steps.index(agent.phase) if agent.phase in steps else -1
    lines = []
    for index, step in enumerate(steps):
        key = "step-done" if index < reached else "step-now" if index == reached else "step-later"
        lines.append(say.plain(key, step=say.plain(f"step-{step}")))
    return "\n".join(lines)


def _live(agent: Agent, say: Speech, facts: Facts) -> Screen:
    keyboard = _way_on(agent, say, link_buttons(agent, say, facts.username))
    return Screen(say("live", name=agent.name, link=link(agent, facts.username)), keyboard)


def _way_on(agent: Agent, say: Speech, between: Sequence[InlineKeyboardButton] = ()) -> InlineKeyboardMarkup:
    return rows(
        [button(say.plain("chat"), Verb.CHAT, agent.id or 0, style=SUCCESS)],
        list(between),
        [button(say.plain("manage"), Verb.CARD, agent.id or 0)],
    )


def _failed(agent: Agent, say: Speech, facts: Facts) -> Screen:
    text = say("failed", reason=say.plain(f"error-{agent.error or 'failed'}"), code=agent.error_code or "")
    if facts.is_machine_gone:
        text += "\n" + say("failed-nothing-charged")
    return Screen(text, failed_keyboard(agent, say))


def failed_keyboard(agent: Agent, say: Speech) -> InlineKeyboardMarkup:
    """What can be done about a failed deployment."""
    return rows(
        [
            button(say.plain("try-again"), Verb.TRY_AGAIN, agent.id or 0),
            button(say.plain("delete"), Verb.DELETE, agent.id or 0, style=DANGER),
        ]
    )


def _clock(now: float) -> str:
    return dt.datetime.fromtimestamp(now, dt.UTC).strftime("%H:%M")
