"""Drive Baal's main job as people do: make an agent in a chat, talk to it, open its link as somebody else."""

import re

from tests.fakes.telegram_client import SimUser, TelegramSim

DEPLOY_SECONDS = 60
ANSWER_SECONDS = 120
"""A very small model on a busy machine takes its time."""

FAILED = "⚠️"


async def make_agent(owner: SimUser, *, name: str, job: str) -> str:
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
    live = await owner.wait_for("is live", timeout=DEPLOY_SECONDS)
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


async def check(url: str) -> None:
    """The whole flow against a running demo; raises with the chat so far where it stops."""
    async with TelegramSim(url) as telegram:
        owner = await telegram.user(name="Olga")
        await owner.send("/start")
        await owner.wait_for("your own AI agent")
        link = await make_agent(owner, name="Chef Ada", job="Plan meals from what is in the fridge. Be brief.")
        await owner.press("Chat")
        await owner.wait_for("Chef Ada")
        print("Owner asks:", "What can I cook with eggs?")
        print("Chef Ada:", await ask(owner, "What can I cook with eggs?"))
        visitor = await telegram.user(name="Victor")
        await visitor.open(link)
        await visitor.wait_for("Chef Ada")
        print("Visitor asks:", "Hello! What can you do for me?")
        print("Chef Ada:", await ask(visitor, "Hello! What can you do for me?"))
        refused = await telegram.refusals()
        if refused:
            raise AssertionError(f"the Bot API refused {[(call.method, call.description) for call in refused]}")
    print("The created agent answered its owner and a visitor.")
