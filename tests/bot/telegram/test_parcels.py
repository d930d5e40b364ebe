"""/export and /import: an agent's state goes out as a file that opens anywhere, and comes back checked."""

import datetime as dt
import gzip
import io
import random
import tarfile
from typing import Any

import pytest

from agent.protocol import Manifest, Mode
from bot.errors import AgentOffline, AgentRefused
from bot.store.models import Agent, Phase
from bot.telegram import media, parcels
from tests.bot.telegram.desk import Desk, newest, press, said, send
from tests.fakes.telegram_client import SimUser
from tests.fakes.telegram_views import MessageView

MADE = 1_800_014_400.0
MANIFEST = Manifest(
    schema_version=4, release="v1", created=MADE, mode=Mode.ACTIVE, epoch=3, last_turn="u9", counts={"message": 212}
)  # fmt: skip


def archive(*, filling: bytes = b"rows", first: str = "agent.db", manifest: str | None = None) -> bytes:
    """As agents make them."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in (
            (first, filling),
            ("workspace/notes.txt", b"Eggs at nine."),
            ("manifest.json", (MANIFEST.model_dump_json() if manifest is None else manifest).encode()),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return whole.getvalue()


def noise(size: int) -> bytes:
    return random.Random(7).randbytes(size)  # noqa: S311  what does not compress


@pytest.fixture
async def ada(desk: Desk, olga: SimUser) -> Agent:
    agent = await desk.agent(olga, name="Chef Ada")
    desk.states.kept[agent.id or 0] = archive()
    return agent


async def documents(person: SimUser) -> list[MessageView]:
    return [message for message in await said(person) if message.file]


# --- out


@pytest.mark.parametrize("phase", [Phase.RUNNING, Phase.UPDATING, Phase.ASLEEP])
async def test_an_owner_gets_all_an_agent_knows_as_a_file_that_any_laptop_opens(
    desk: Desk, olga: SimUser, ada: Agent, phase: Phase
) -> None:
    await desk.observe(ada.id, phase=phase)
    await send(desk, olga, "/export", times=1)

    [message] = await said(olga)
    assert message.file
    assert message.file.name.startswith("Chef-Ada-20")
    assert message.file.name.endswith(".baal.tar.gz")
    assert "No keys are in it" in message.text
    content = await desk.telegram.content(message.file.file_id)
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as opened:
        assert opened.getnames() == ["agent.db", "workspace/notes.txt", "manifest.json"]
    assert gzip.decompress(content) == archive()
    assert list(desk.folder.iterdir()) == [], "nothing is left on the disk"


async def test_with_several_agents_the_owner_says_which(desk: Desk, olga: SimUser, ada: Agent) -> None:
    other = await desk.agent(olga, name="Bea")
    desk.states.kept[other.id or 0] = archive()

    await send(desk, olga, "/export", times=1)
    await press(desk, olga, "Bea", times=1)

    [file] = [message.file for message in await documents(olga)]
    assert file
    assert file.name.startswith("Bea-")


async def test_who_has_no_agent_is_led_to_making_one(desk: Desk, olga: SimUser) -> None:
    await send(desk, olga, "/export", "/import", times=1)

    assert [message.text.split(".")[0] for message in await said(olga)] == [
        "No agents yet",
        "There is no agent of yours that could take it",
    ]


async def test_what_telegram_does_not_take_is_told_with_its_size(desk: Desk, olga: SimUser, ada: Agent) -> None:
    desk.states.kept[ada.id or 0] = archive(filling=noise(60_000_000))

    await send(desk, olga, "/export", times=1)

    [message] = await said(olga)
    assert message.text.startswith("Chef Ada has 60 MB of files and memory. Packed, that is more than the 50 MB")


async def test_an_agent_that_does_not_answer_is_told(desk: Desk, olga: SimUser, ada: Agent) -> None:
    desk.states.error = AgentOffline("away")

    await send(desk, olga, "/export", times=1)

    assert [message.text for message in await said(olga)] == [
        "Chef Ada could not be packed just now. Try again in a minute."
    ]


async def test_an_agent_that_is_being_set_up_has_nothing_to_export(desk: Desk, olga: SimUser) -> None:
    await desk.agent(olga, phase=Phase.STARTING)

    await send(desk, olga, "/export", times=1)

    assert "nothing to export yet" in await newest(olga)


async def test_only_an_owner_exports(desk: Desk, olga: SimUser, victor: SimUser, ada: Agent) -> None:
    keyboard = {"inline_keyboard": [[{"text": "Made up", "callback_data": f"v1|export|{ada.id}"}]]}
    await send(desk, victor, "/start", times=1)
    await desk.telegram.call("sendMessage", chat_id=victor.id, text="old", reply_markup=keyboard)

    await press(desk, victor, "Made up", times=1)

    assert await documents(victor) == []


# --- back


async def upload(desk: Desk, person: SimUser, content: bytes, *, times: int = 1, **facts: Any) -> None:
    await person.upload("Chef-Ada-2027-01-15.baal.tar.gz", content, mime="application/gzip", **facts)
    await desk.handle(times=times)


async def at_question(desk: Desk, owner: SimUser, content: bytes) -> None:
    await send(desk, owner, "/import", times=1)
    await upload(desk, owner, content)
    await press(desk, owner, "Chef Ada", times=1)


@pytest.mark.parametrize("content", [gzip.compress(archive()), archive()], ids=["packed", "unpacked by the browser"])
async def test_a_file_is_put_in_place_after_a_warning(desk: Desk, olga: SimUser, ada: Agent, content: bytes) -> None:
    await send(desk, olga, "/import", times=1)
    await upload(desk, olga, content)
    assert "of 2027-01-15 12:00 (UTC) and holds 212 messages" in await newest(olga)

    await press(desk, olga, "Chef Ada", times=1)
    asked = (await said(olga))[-1]
    assert "What it knows today is kept as a snapshot for 7 days" in asked.text
    assert desk.states.put == []

    await press(desk, olga, "Put it in place")
    done = (await said(olga))[-1]
    assert done.id == asked.id
    assert desk.states.put == [(ada.id, archive())], "once, although the press came twice"
    assert list(desk.folder.iterdir()) == []


async def test_import_as_an_answer_to_the_file_takes_that_file(desk: Desk, olga: SimUser, ada: Agent) -> None:
    file = await olga.upload("old.baal.tar.gz", gzip.compress(archive()))
    await desk.handle(times=1)
    await olga.send("/import", reply_to=file.id)

    await desk.handle(times=1)

    assert "Whose state shall this become?" in await newest(olga)


def swollen() -> bytes:
    return gzip.compress(archive(filling=bytes(2_000_000)))


@pytest.mark.parametrize(
    "content",
    [
        b"hello",
        gzip.compress(b"hello"),
        gzip.compress(archive())[:-9],
        gzip.compress(archive(first="passwd")),
        gzip.compress(archive(manifest="{}")),
        gzip.compress(archive()[:1_024]),
        gzip.compress(archive(filling=noise(3_000)))[:2_000],
        b"",
    ],
    ids=["text", "packed text", "no checksum", "another tar", "no manifest", "cut tar", "cut file", "empty"],
)
async def test_a_file_that_is_none_of_ours_changes_nothing(
    desk: Desk, olga: SimUser, ada: Agent, content: bytes
) -> None:
    await send(desk, olga, "/import", times=1)

    await upload(desk, olga, content)

    assert await newest(olga) == (
        "That is not a file that /export made, or it was damaged on its way. Nothing has changed."
    )
    assert await desk.services.imports.get(olga.id) is None
    assert list(desk.folder.iterdir()) == []


async def test_a_file_that_swells_is_not_unpacked(
    desk: Desk, olga: SimUser, ada: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parcels, "MAX_PLAIN_BYTES", 1_000_000)
    await send(desk, olga, "/import", times=1)

    await upload(desk, olga, swollen())

    assert await newest(olga) == "That file unpacks to more than 1 MB, so it was not used. Nothing has changed."


async def test_a_file_too_large_for_telegram_is_told(desk: Desk, olga: SimUser, ada: Agent) -> None:
    await send(desk, olga, "/import", times=1)

    await upload(desk, olga, gzip.compress(archive()), size=media.MAX_BYTES + 1)

    assert (await newest(olga)).startswith("That file has 20.0 MB, and Telegram gives bots 20 MB at most.")


async def test_what_the_agent_refuses_changes_nothing_and_says_why(desk: Desk, olga: SimUser, ada: Agent) -> None:
    await at_question(desk, olga, gzip.compress(archive()))
    desk.states.error = AgentRefused("bad_snapshot", "Its schema 9 is newer than ours, 4.")

    await press(desk, olga, "Put it in place", times=1)

    assert await newest(olga) == (
        "Chef Ada could not take it: Its schema 9 is newer than ours, 4. Nothing has changed."
    )


async def test_an_agent_that_is_away_takes_it_at_the_second_try(desk: Desk, olga: SimUser, ada: Agent) -> None:
    await at_question(desk, olga, gzip.compress(archive()))
    desk.states.error = AgentOffline("away")
    await press(desk, olga, "Put it in place", times=1)
    assert "could not take it just now. Nothing has changed." in await newest(olga)
    desk.states.error = None

    await press(desk, olga, "Try again", times=1)

    assert desk.states.put == [(ada.id, archive())]


async def test_keeping_it_drops_the_file(desk: Desk, olga: SimUser, ada: Agent) -> None:
    await at_question(desk, olga, gzip.compress(archive()))

    await press(desk, olga, "Keep it", times=1)

    assert await newest(olga) == "Cancelled. Nothing has changed."
    assert await desk.services.imports.get(olga.id) is None


@pytest.mark.parametrize("words", ["/cancel", "/list"])
async def test_after_another_command_a_file_is_for_the_agent(desk: Desk, talking: SimUser, words: str) -> None:
    await send(desk, talking, "/import", words, times=1)

    await upload(desk, talking, gzip.compress(archive()))

    assert await desk.services.turns.count_open(talking.id) == 1


async def test_cancelling_an_import_says_so(desk: Desk, olga: SimUser, ada: Agent) -> None:
    await send(desk, olga, "/import", "/cancel", times=1)

    assert await newest(olga) == "Cancelled. Nothing has changed."


async def test_a_message_meanwhile_is_for_the_agent(desk: Desk, talking: SimUser) -> None:
    await send(desk, talking, "/import", "What with eggs?", times=1)

    assert await desk.services.turns.count_open(talking.id) == 1


async def test_a_button_of_an_import_that_is_over_says_so(desk: Desk, olga: SimUser, ada: Agent) -> None:
    await send(desk, olga, "/import", times=1)
    await upload(desk, olga, gzip.compress(archive()))
    await desk.services.imports.drop(olga.id)

    await press(desk, olga, "Chef Ada", times=1)

    assert await newest(olga) == "That file is no longer waiting. Send /import again."


def test_the_file_is_named_after_the_agent() -> None:
    assert parcels.file_name("Chef  Ada", dt.date(2027, 1, 5)) == "Chef-Ada-2027-01-05.baal.tar.gz"
