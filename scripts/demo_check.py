"""Drive Baal's main job as people do: make an agent in a chat, talk to it, open its link as somebody else."""

import asyncio
import re
from pathlib import Path

from scripts.demo_sites import Site
from tests.fakes.telegram_client import SimUser, TelegramSim

START_SECONDS = 60
DEPLOY_SECONDS = 60
ANSWER_SECONDS = 120
"""A very small model on a busy machine takes its time."""
DELETE_SECONDS = 90

FAILED = "⚠️"


async def greet(person: SimUser) -> None:
    """Begin; the bot may still be starting."""
    await person.send("/start")
    await person.wait_for("your own AI agent", timeout=START_SECONDS)


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


async def check(url: str, site: Site, log: Path) -> None:
    """The whole flow against a running demo; raises with the chat so far where it stops. `log` is the bot's."""
    async with TelegramSim(url) as telegram:
        owner = await telegram.user(name="Olga")
        await greet(owner)
        job = "Plan meals from what is in the fridge. Be brief."
        link = await make_agent(owner, name="Chef Ada", job=job, timeout=site.deploy_seconds)
        print("The card showed:", " → ".join([*await _shown(telegram), "live"]))
        print(
            "Seconds:",
            ", ".join(
                f"{step} {seconds:.1f}" for step, seconds in step_seconds(await asyncio.to_thread(log.read_text))
            ),
        )
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


def step_seconds(log: str) -> list[tuple[str, float]]:
    """How long each step took by the bot's log, with what it logs of the longest ones in them."""
    found = re.findall(r"(?:step done .*step=(\w+)|(image pulled|machine prepared)).* seconds=([\d.]+)", log)
    return [(step or part, float(seconds)) for step, part, seconds in found]


async def _shown(telegram: TelegramSim) -> list[str]:
    """The steps that the deployment's card showed as the one that happens; of quick ones it shows not all."""
    texts = [str(call.parameters.get("text", "")) for call in await telegram.outbox()]
    return list(dict.fromkeys(step for text in texts for step in re.findall(r"⏳ (.+)…", text)))


async def _delete(owner: SimUser, link: str, site: Site) -> None:
    """Delete it as its owner, and wait until its machine is no more."""
    await owner.send(f"/delete {link.rpartition('_')[2]}")
    await owner.wait_for("Delete Chef Ada?")
    await owner.press("Yes, delete it")
    print("Deleted:", (await owner.wait_for("is deleted", timeout=DELETE_SECONDS)).text)
    async with asyncio.timeout(DELETE_SECONDS):
        while await site.left():  # noqa: ASYNC110  other processes tell nobody
            await asyncio.sleep(0.2)
