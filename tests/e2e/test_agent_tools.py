"""What an agent does besides talking, from the person's chat through the whole bot to a real agent and back."""

import json

import pytest

from tests.e2e.conftest import World
from tests.e2e.test_main_job import talking
from tests.fakes.libertai_sim import Script, ToolCall

pytestmark = pytest.mark.e2e


def call(name: str, **arguments: object) -> Script:
    return Script(text="", calls=[ToolCall(id="c1", name=name, arguments=json.dumps(arguments))])


async def test_a_document_is_read_and_sent_back_and_a_question_is_answered_with_a_button(world: World) -> None:
    owner = await talking(world)
    recipe = b"water\nsalt\nleek\n" * 1000
    await world.libertai.script(
        call("read_file", path="received/recipe.txt"),
        call("send_file", path="received/recipe.txt", caption="Your recipe"),
        Script(text="I have read it: leek soup."),
    )
    await owner.upload("recipe.txt", recipe, mime="text/plain", caption="What is this?")
    document = await owner.wait_for("Your recipe")
    assert document.file
    assert await world.telegram.content(document.file.file_id) == recipe
    asked = (await world.libertai.calls())[-1].messages
    question = next(message["content"] for message in reversed(asked) if message["role"] == "user")
    assert question.startswith("What is this?\n[Attached file: received/recipe.txt, text/plain, 16 kB.")
    results = [message["content"] for message in asked if message["role"] == "tool"]
    assert results[0].startswith("1\twater\n2\tsalt\n3\tleek")

    await world.libertai.script(call("ask", question="Hot or cold?", options=["Hot, please", "Cold"]))
    await owner.send("Make it.")
    await owner.wait_for("Hot or cold?", button="Cold")
    await world.libertai.script(Script(text="Cold soup it is."))
    await owner.press("Cold")
    await owner.wait_for("Cold soup it is.")
    asked = (await world.libertai.calls())[-1].messages
    assert asked[-1]["content"].startswith("Cold")
    print(await owner.transcript())  # noqa: T201  to be read as a person does: `pytest -rP`
    assert not (await owner.wait_for("→ Cold", anywhere=True)).buttons
