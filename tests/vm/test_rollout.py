"""A release follows another on machines that boot, and is taken back, while people go on talking."""

import json
from contextlib import AsyncExitStack

import pytest
import pytest_asyncio

from agent.store import SCHEMA_VERSION
from bot.store.models import Phase
from scripts.demo_check import greet, make_agent
from scripts.image.registry import loopback_registry
from tests.vm.baal import Chatter, baal_of, quoted
from tests.vm.releases import forget, patched, push

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

ADDED = """
SCHEMA_VERSION += 1
_NEW_COLUMNS["message"]["mood"] = "TEXT NOT NULL DEFAULT 'calm'"
_SCHEMA += "CREATE TABLE IF NOT EXISTS mood (name TEXT PRIMARY KEY); INSERT OR IGNORE INTO mood VALUES ('calm');"
"""
"""What a later release may do to the database: an earlier one passes over it."""
BROKEN = """
raise RuntimeError("this release does not start")
"""
AT_ONCE = ("--yes", "--canary", "1", "--soak", "0")


@pytest.fixture(scope="module")
def repository(docker_client, agent_image, pushed):
    """The agent in a registry here as v1, with more in its database as v2, and broken as v3."""
    with loopback_registry(images=pushed) as place:
        name = f"{place}/agent"
        try:
            push(docker_client, agent_image, name, "v1")
            push(docker_client, patched(docker_client, f"{name}:v1", ADDED), name, "v2")
            push(docker_client, patched(docker_client, f"{name}:v1", BROKEN), name, "v3")
            yield name
        finally:
            forget(docker_client, name)


@pytest.fixture(scope="module")
def digests(docker_client, repository):
    """Tag → digest."""
    images = {tag: docker_client.images.get(f"{repository}:{tag}") for tag in ("v1", "v2", "v3")}
    return {
        tag: next(each for each in image.attrs["RepoDigests"] if each.startswith(repository)).partition("@")[2]
        for tag, image in images.items()
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def baal(docker_client, repository, digests, tmp_path_factory):
    """One bot for both tests."""
    async with baal_of(docker_client, f"{repository}@{digests['v1']}", tmp_path_factory.mktemp("baal")) as made:
        await made.libertai.pace(first_token_seconds=0.1, tokens_per_second=80)
        yield made


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def chatters(baal):
    """The agent's owner and a visitor, who have begun to talk to it."""
    owner, visitor = await baal.telegram.user(name="Olga"), await baal.telegram.user(name="Victor")
    await greet(owner)
    link = await make_agent(owner, name="Ada", job="Answer briefly.", timeout=180)
    await owner.press("Chat")
    await owner.wait_for("You are talking to your agent")
    await visitor.open(link)
    await visitor.wait_for("Ada")
    made = [Chatter(owner, "apple"), Chatter(visitor, "pear")]
    for chatter in made:
        await chatter.say()
    return made


async def talked_through(chatters, work):
    """What comes of it, while all of them talk; and the longest that one of them waited for an answer."""
    before = {id(chatter): len(chatter.silences) for chatter in chatters}
    async with AsyncExitStack() as stack:
        for chatter in chatters:
            await stack.enter_async_context(chatter.going_on())
        done = await work
    for chatter in chatters:
        await chatter.say()
    return done, max(seconds for chatter in chatters for seconds in chatter.silences[before[id(chatter)] :])


async def rolled_out(baal, *words):
    """Started, and followed as far as it goes by itself: its status, and the exit code for scripts."""
    begun = await baal.rollout(*words)
    assert begun.code == 0, begun.said
    watched = await baal.rollout("status", "--watch", "--json")
    return json.loads(watched.said.splitlines()[-1]), watched.code


async def whole(baal, chatters, machine):
    """The agent there knows all that was said and answered, once and in order; and so do the chats."""
    held = await baal.held(machine)
    for chatter in chatters:
        said = [(speaker, text) for chat_id, speaker, text in held.said if chat_id == chatter.chat_id]
        assert [text for speaker, text in said if speaker == "user"] == chatter.said
        assert [speaker for speaker, _ in said] == ["user", "assistant"] * len(chatter.said)
        for known in ([text for speaker, text in said if speaker == "assistant"], await chatter.answers()):
            assert len(known) == len(chatter.said)
            assert all(quoted(text) in answer for text, answer in zip(chatter.said, known, strict=True))
    return held


async def test_a_release_is_followed_by_another_and_taken_back_and_nobody_who_talks_notices(baal, chatters, digests):
    agent_id = 1
    first = await baal.machine(agent_id)

    (status, code), silence = await talked_through(chatters, rolled_out(baal, "start", ":v2", *AT_ONCE))

    assert (status["state"], code) == ("done", 0)
    second = await baal.machine(agent_id)
    assert second.id != first.id
    await baal.only(second)
    assert digests["v2"] in await baal.image(second)
    held = await whole(baal, chatters, second)
    assert (held.version, "mood" in held.columns, "mood" in held.tables) == (SCHEMA_VERSION + 1, True, True)
    print(f"v1 to v2: longest silence {silence:.1f} s")  # noqa: T201  for `pytest -rP`

    (status, code), silence = await talked_through(chatters, rolled_out(baal, "undo", "--yes"))

    assert (status["state"], code) == ("done", 0)
    third = await baal.machine(agent_id)
    assert third.id not in {first.id, second.id}
    await baal.only(third)
    assert digests["v1"] in await baal.image(third)
    held = await whole(baal, chatters, third)
    assert (held.version, "mood" in held.columns, "mood" in held.tables) == (SCHEMA_VERSION, True, True)
    print(f"v2 to v1: longest silence {silence:.1f} s")  # noqa: T201
    print("messages", {chatter.chat_id: len(chatter.said) for chatter in chatters})  # noqa: T201


async def test_a_release_that_does_not_start_stops_at_the_canary_which_goes_on_as_before(
    baal, chatters, digests, repository
):
    agent_id = 1
    before = await baal.machine(agent_id)

    (status, code), silence = await talked_through(chatters, rolled_out(baal, "start", f"{repository}:v3", *AT_ONCE))

    assert (status["state"], code) == ("paused", 1)
    assert "canary failed" in status["reason"]
    assert await baal.machine(agent_id) == before
    assert (await baal.books.agent(agent_id)).phase is Phase.RUNNING
    await baal.only(before)
    assert digests["v1"] in await baal.image(before)
    await whole(baal, chatters, before)
    await baal.operator.wait_for("has paused", timeout=30)
    await baal.operator.wait_for("could not be updated", anywhere=True)
    assert (await baal.rollout("abort")).code == 0
    print(f"v1 to v3: longest silence {silence:.1f} s")  # noqa: T201
