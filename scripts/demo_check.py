"""Drive Baal's main job as people do: make an agent in a chat, talk to it, open its link as somebody else."""

import asyncio
import re

from scripts.demo_sites import Site
from tests.fakes.telegram_client import SimUser, TelegramSim

DEPLOY_SECONDS = 60
ANSWER_SECONDS = 120
"""A very small model on a busy machine takes its time."""
DELETE_SECONDS = 90

FAILED = "⚠️"


async def make_agent(owner: SimUser, *, name: str, job: str, timeout: float = DEPLOY_SECONDS) -> str:
    """Go through the wizard and wait until the agent is live; its deep link."""
    await owner.send("/create")
    await owner.wait_for("What should it be called?")
    await owner.send(name)
    await owner.wait_for("job?")
    await owner.send(job)
    choice = await owner.wait_for("Pick a model")
    await owner.press(choice.buttons[0][0].text)
    await owner.wait_for("Check", button="Deploy")
    await owner.press("Deploy")
    live = await owner.wait_for("is live", timeout=timeout)
    return link_in(live.text)


def link_in(text: str) -> str:
    """The deep link to an agent that stands in a text."""
    found = re.search(r"t\.me/\w+\?start=agent_\w+", text)
    if found is None:
        raise AssertionError(f"no link to an agent in {text!r}")
    return found[0]


async def ask(person: SimUser, question: str, *, timeout: float = ANSWER_SECONDS) -> str:
    """Say something to the agent of this chat and wait for the whole answer."""
    await person.send(question)
    answer = (await person.wait_whole(timeout=timeout)).text
    if not answer or answer.startswith(FAILED):
        raise AssertionError(f"no answer but {answer!r}")
    return answer


async def check(url: str, site: Site) -> None:
    """The whole flow against a running demo; raises with the chat so far where it stops."""
    async with TelegramSim(url) as telegram:
        owner = await telegram.user(name="Olga")
        await owner.send("/start")
        await owner.wait_for("your own AI agent")
        job = "Plan meals from what is in the fridge. Be brief."
        link = await make_agent(owner, name="Chef Ada", job=job, timeout=site.deploy_seconds)
        print("Steps:", " · ".join(f"{step} {seconds:.1f} s" for step, seconds in await step_seconds(telegram)))
        await owner.press("Chat")
        await owner.wait_for("Chef Ada")
        print("Owner asks:", "What can I cook with eggs?")
        print("Chef Ada:", await ask(owner, "What can I cook with eggs?"))
        visitor = await telegram.user(name="Victor")
        await visitor.open(link)
        await visitor.wait_for("Chef Ada")
        print("Visitor asks:", "Hello! What can you do for me?")
        print("Chef Ada:", await ask(visitor, "Hello! What can you do for me?"))
        await _delete(owner, link, site)
        refused = await telegram.refusals()
        if refused:
            raise AssertionError(f"the Bot API refused {[(call.method, call.description) for call in refused]}")
    print("The created agent answered its owner and a visitor; deleted, it left no machine behind.")


async def step_seconds(telegram: TelegramSim) -> list[tuple[str, float]]:
    """The steps of the deployment that its card showed, with how long it showed each as the one that happens."""
    shown: dict[str, float] = {}
    for call in await telegram.outbox():
        text = str(call.parameters.get("text", ""))
        if now := re.search(r"⏳ (.+)…", text):
            shown.setdefault(now[1], call.at)
        elif shown and "is live" in text:
            times = [*shown.values(), call.at]
            return [(step, times[index + 1] - times[index]) for index, step in enumerate(shown)]
    return []


async def _delete(owner: SimUser, link: str, site: Site) -> None:
    """Delete it as its owner, and wait until its machine is no more."""
    await owner.send(f"/delete {link.rpartition('_')[2]}")
    await owner.wait_for("Delete Chef Ada?")
    await owner.press("Delete for good")
    print("Deleted:", (await owner.wait_for("is deleted", timeout=DELETE_SECONDS)).text)
    async with asyncio.timeout(DELETE_SECONDS):
        while await site.left():
            await asyncio.sleep(0.2)
