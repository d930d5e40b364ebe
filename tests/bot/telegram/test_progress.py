from typing import Any

import pytest

from bot.errors import MachineError
from bot.store.models import Agent, Phase, Wanted
from bot.telegram.progress import ENDS, Facts, progress
from bot.telegram.screen import Screen
from bot.telegram.texts import load_texts

SAY = load_texts().speak("en")
STARTED = 1_800_000_000.0
LINK = "https://t.me/baal_bot?start=agent_abcDEF123456"


def agent(phase: Phase, *, name: str = "Chef Ada", **facts: Any) -> Agent:
    values = {"deploy_started_at": STARTED, "link": "abcDEF123456", **facts}
    return Agent(
        id=7, owner_id=1, name=name, job="cooks", model="m", sealed_secret="", release="r", phase=phase, **values
    )


def shown(row: Agent, *, after: float = 0, is_machine_gone: bool = False) -> Screen:
    return progress(row, SAY, Facts(username="baal_bot", now=STARTED + after, is_machine_gone=is_machine_gone))


def labels(screen: Screen) -> list[list[str]]:
    return [[button.text for button in row] for row in screen.keyboard.inline_keyboard] if screen.keyboard else []


@pytest.mark.parametrize(
    ("phase", "marks"),
    [
        (Phase.WAITING, "◻◻◻◻◻"),
        (Phase.RENTING, "⏳◻◻◻◻"),
        (Phase.REACHING, "✅⏳◻◻◻"),
        (Phase.PREPARING, "✅✅⏳◻◻"),
        (Phase.STARTING, "✅✅✅⏳◻"),
        (Phase.PROVING, "✅✅✅✅⏳"),
    ],
)
def test_the_steps_are_those_that_happen(phase: Phase, marks: str) -> None:
    head, *steps = shown(agent(phase), after=72).text.splitlines()

    assert head == "<b>Deploying Chef Ada</b> · 1:12"
    names = ["Machine reserved", "Booted", "Prepared", "Agent installed", "Health check"]
    assert steps == [f"{mark} {name}{'…' if mark == '⏳' else ''}" for mark, name in zip(marks, names, strict=True)]


def test_a_failed_attempt_is_told_while_the_next_one_goes_on() -> None:
    text = shown(agent(Phase.RENTING, error="no-capacity", error_code="7F3A")).text

    assert text.splitlines()[-1] == "↻ An attempt failed; trying again. Code 7F3A."


def test_a_clock_that_went_back_shows_no_negative_time() -> None:
    assert "· 0:00" in shown(agent(Phase.RENTING), after=-5).text


def test_a_live_agent_can_be_chatted_with_copied_shared_and_managed() -> None:
    screen = shown(agent(Phase.RUNNING))

    assert screen.text == "🎉 <b>Chef Ada is live</b>\nt.me/baal_bot?start=agent_abcDEF123456"
    assert labels(screen) == [["💬 Chat"], ["📋 Copy link", "↗ Share"], ["⚙ Manage"]]
    assert screen.keyboard
    (chat,), (copy, share), (manage,) = screen.keyboard.inline_keyboard
    assert (chat.callback_data, manage.callback_data) == ("v1|chat|7", "v1|card|7")
    assert copy.copy_text
    assert copy.copy_text.text == LINK
    assert (
        share.url
        == "https://t.me/share/url?url=https%3A%2F%2Ft.me%2Fbaal_bot%3Fstart%3Dagent_abcDEF123456&text=Chef%20Ada"
    )


def test_every_failure_has_words_a_code_and_a_way_on() -> None:
    codes = {MachineError.code, *(kind.code for kind in MachineError.__subclasses__())}
    for code in codes:
        screen = shown(agent(Phase.FAILED, error=code, error_code="7F3A"))

        assert screen.text.startswith("❌ <b>")
        assert "Code 7F3A." in screen.text
        assert labels(screen) == [["⟳ Try again", "🗑 Delete"]]


@pytest.mark.parametrize("is_machine_gone", [True, False])
def test_nothing_is_charged_is_only_said_of_a_machine_that_is_given_back(is_machine_gone: bool) -> None:  # noqa: FBT001  a parameter
    text = shown(agent(Phase.FAILED, error="not-reached", error_code="7F3A"), is_machine_gone=is_machine_gone).text

    assert ("Nothing is being charged" in text) is is_machine_gone


def test_a_deleted_agent_says_when_its_machine_was_stopped() -> None:
    assert shown(agent(Phase.DELETING, wanted=Wanted.DELETED)) == Screen("🗑 <b>Deleting Chef Ada…</b>")
    assert shown(agent(Phase.GONE, wanted=Wanted.DELETED), after=3600) == Screen(
        "🗑 <b>Chef Ada is deleted.</b> Its machine was stopped at 09:00 UTC, billing ended."
    )


@pytest.mark.parametrize("name", ["<b>&amp;</b>", "Vec<T>", "🦊", "مساعد", "\u202eevil"])
@pytest.mark.parametrize("phase", list(Phase))
def test_no_name_becomes_markup_in_any_phase(phase: Phase, name: str) -> None:
    text = shown(agent(phase, name=name, error_code="7F3A")).text

    assert name not in text or not {"<", "&"} & set(name)


def test_the_phases_that_end_a_wish_are_those_without_a_next_step() -> None:
    assert {Phase.RUNNING, Phase.ASLEEP, Phase.FAILED, Phase.GONE} == ENDS


def codes() -> list[str]:
    found, kinds = {MachineError.code}, [MachineError]
    while kinds:
        kinds += kinds.pop().__subclasses__()
        found |= {kind.code for kind in kinds}
    return sorted(found)


@pytest.mark.parametrize("code", codes())
def test_every_machine_error_has_a_text_for_its_owner(code: str) -> None:
    text = shown(agent(Phase.FAILED, error=code, error_code="7F3A"), is_machine_gone=True).text

    assert text.splitlines() == [
        f"❌ <b>{SAY.plain(f'error-{code}')}</b>",
        "Code 7F3A.",
        "Nothing is being charged: its machine was given back.",
    ]


def test_an_agent_that_was_there_before_is_brought_back_with_what_it_knew() -> None:
    head, *steps = shown(agent(Phase.RESTORING, ready_at=STARTED), after=72).text.splitlines()

    assert head == "<b>Bringing Chef Ada back</b> · 1:12"
    assert [step[0] for step in steps] == ["✅", "✅", "✅", "✅", "⏳", "◻"]
    assert steps[4] == "⏳ Memory and files brought back…"


@pytest.mark.parametrize("phase", [Phase.DOZING, Phase.ASLEEP])
def test_an_agent_that_is_asleep_can_be_written_to(phase: Phase) -> None:
    screen = shown(agent(phase, ready_at=STARTED))

    assert screen.text == "💤 <b>Chef Ada</b> is asleep. It wakes when you write to it."
    assert labels(screen) == [["💬 Chat"], ["⚙ Manage"]]


def test_an_agent_that_is_being_updated_is_live() -> None:
    assert shown(agent(Phase.UPDATING, ready_at=STARTED)) == shown(agent(Phase.RUNNING, ready_at=STARTED))
