"""Files both ways through the whole bot, in front of an agent that a test speaks for."""

import pytest

from agent.protocol import Done, File, Refusal, Role, Text
from bot.chat.files import NO_WORDS
from bot.log import Redacting
from tests.e2e.test_doing import running_bot, stage  # noqa: F401  a fixture
from tests.fakes.libertai_catalogue import ADDRESS
from tests.fakes.telegram_pictures import png

pytestmark = pytest.mark.e2e

DONE = Done(seq=0)
PICTURE = png(30, 20)


def made(stage, chat_id, name, content, media_type):  # noqa: F811
    """The agent has made a file: its event."""
    stage.agent.files[str(chat_id), name] = content
    return File(seq=0, id=name, name=name, media_type=media_type, size=len(content), caption=f"my {name}")


async def test_an_album_reaches_the_agent_whole_and_its_files_come_back(stage, caplog):  # noqa: F811
    caplog.set_level("DEBUG")
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stage.agent.say(Text(seq=0, text="Send me files."), DONE)
        await owner.wait_whole()
        await owner.album(("me.png", PICTURE, "image/png"), ("a b.txt", b"text", "text/plain"), caption="These")
        asked = await stage.agent.until_asked(2)
        picture = made(stage, owner.id, "chart.png", PICTURE, "image/png")
        report = made(stage, owner.id, "report.pdf", b"%PDF" * 100_000, "application/pdf")
        stage.agent.say(picture, Text(seq=0, text="Two for two."), report, DONE)
        document = await owner.wait_for("my report.pdf")

    text, photo = (await owner.messages())[-3:-1]
    photo_name, text_name = (one.name for one in asked.attachments)
    assert asked.message == "These"
    assert (photo_name.endswith(".jpg"), text_name) == (True, "a b.txt")
    assert [(chat, role) for chat, _, role in stage.agent.given] == [(str(owner.id), Role.OWNER)] * 2
    assert asked.attachments == tuple(attachment for _, attachment, _ in stage.agent.given)
    assert [stage.agent.files[str(owner.id), one.id] for one in asked.attachments] == [PICTURE, b"text"]
    assert (text.text, photo.file.kind, photo.text) == ("Two for two.", "photo", "my chart.png")
    assert await stage.telegram.content(document.file.file_id) == b"%PDF" * 100_000
    written = [Redacting().format(record) for record in caplog.records]
    assert any("getFile" in line for line in written)
    assert stage.telegram.token not in "\n".join(written)
    assert stage.telegram.token not in "".join(one.getMessage() for one in caplog.records if one.name[:4] == "bot.")


async def test_a_voice_message_waits_for_a_bot_that_was_killed_before_it_was_answered(stage):  # noqa: F811
    async with running_bot(stage.settings):
        owner = await stage.talking()
        await owner.upload("voice", b"OggS", mime="audio/ogg", kind="voice")  # behind the one being answered
        await owner.wait_for(anywhere=True)
    async with running_bot(stage.settings):
        await stage.agent.until_asked(2)
        stage.agent.say(Text(seq=0, text="First."), DONE)
        asked = await stage.agent.until_asked(3)
        stage.agent.say(Text(seq=0, text="I hear you."), DONE)
        await owner.wait_for("I hear you.")

    (voice,) = asked.attachments
    assert (asked.message, voice.media_type, voice.size) == (NO_WORDS, "audio/ogg", 4)


async def test_a_refused_file_costs_nothing_and_can_be_tried_again(stage):  # noqa: F811
    async with running_bot(stage.settings):
        owner = await stage.talking()
        stage.agent.say(Text(seq=0, text="Hello."), DONE)
        await owner.wait_whole()
        stage.agent.refusals = [(507, Refusal(kind="no_room", text="The agent has no room for it."))]
        await owner.upload("notes.txt", b"notes", caption="Keep")
        failed = await owner.wait_for("no room", button="Retry")
        await owner.press("Retry")
        asked = await stage.agent.until_asked(2)
        stage.agent.say(Text(seq=0, text="Kept."), DONE)
        await owner.wait_for("Kept.")

    assert failed.text == "⚠️ notes.txt could not be handed over: The agent has no room for it."
    assert (asked.message, [one.name for one in asked.attachments]) == ("Keep", ["notes.txt"])


@pytest.mark.parametrize(
    ("has_catalogue", "model", "vision"),
    [(True, "gemma-4-31b-it", "true"), (True, "glm-5.2", "false"), (False, "gemma-4-31b-it", "false")],
)
async def test_an_agent_is_told_whether_its_model_sees(stage, has_catalogue, model, vision):  # noqa: F811
    prices = f"{stage.settings.libertai_gateway}/api/v0/aggregates/{ADDRESS}.json" if has_catalogue else ""
    settings = stage.settings.model_copy(update={"model_prices_url": prices, "default_models": (model,)})
    async with running_bot(settings):
        await stage.talking()

    assert stage.agent.spec is not None
    assert stage.agent.spec.model == model
    assert stage.agent.spec.environment()["AGENT_VISION"] == vision
