from typing import Any

import pytest

from bot.accounts.libertai import Model
from bot.errors import Refused
from bot.store.models import Draft, DraftStep
from bot.telegram import wizard
from bot.telegram.keyboards import Verb, parse
from bot.telegram.screen import Screen
from bot.telegram.texts import load_texts

SAY = load_texts().speak("en")
FAST = Model("fast", price_in=200, price_out=1000)
SMART = Model("smart", vision=True, tee=True)
AT = 1_800_000_000.0


def draft(step: DraftStep = DraftStep.NAME, **answers: Any) -> Draft:
    return Draft(user_id=1, chat_id=1, step=step, **answers)


def whole(step: DraftStep = DraftStep.CHECK) -> Draft:
    return draft(step, name="Ada", job="cooks", model="fast")


def screen(row: Draft) -> Screen:
    return wizard.screen(row, SAY, [FAST, SMART])


def buttons(shown: Screen) -> list[list[tuple[str, str]]]:
    lines = shown.keyboard.inline_keyboard if shown.keyboard else ()
    return [[(button.text, str(button.callback_data)) for button in line] for line in lines]


def visible_units(text: str) -> int:
    """What Telegram counts, give or take the markup."""
    return len(text.encode("utf-16-le")) // 2


# --- the name


@pytest.mark.parametrize(
    ("said", "name"),
    [
        ("Ada", "Ada"),
        ("  Chef \n\t Ada  ", "Chef Ada"),
        ("A\x00d\x1ba\x7f", "Ada"),
        ("🦊", "🦊"),
        ("👩‍🍳" * 40, "👩‍🍳" * 40),
        ("مساعد الطبخ", "مساعد الطبخ"),
        ("x" * 40, "x" * 40),
    ],
)
def test_a_name_is_one_line_without_control_characters(said: str, name: str) -> None:
    row = draft()

    wizard.answer_name(row, said)

    assert (row.name, row.step) == (name, DraftStep.JOB)


@pytest.mark.parametrize("said", ["", "   ", "\n\n", "\u200b\u200b", "\u202e", "\x00\x01", "\u00a0"])
def test_a_name_of_nothing_visible_is_refused(said: str) -> None:
    row = draft()

    with pytest.raises(Refused, match="name-empty"):
        wizard.answer_name(row, said)

    assert (row.name, row.step) == ("", DraftStep.NAME)


@pytest.mark.parametrize("length", [41, 4096, 5000])
def test_a_name_that_is_too_long_is_refused_with_its_length(length: int) -> None:
    with pytest.raises(Refused) as refusal:
        wizard.answer_name(draft(), "x" * length)

    assert (refusal.value.hint, refusal.value.values) == ("name-too-long", {"length": length, "limit": 40})


def test_a_name_of_few_characters_with_endless_marks_is_refused() -> None:
    with pytest.raises(Refused, match="name-too-long"):
        wizard.answer_name(draft(), "Z" + "\u0301" * 200)


@pytest.mark.parametrize(
    ("text", "length"),
    [("Ada", 3), ("🦊🦊", 2), ("👩‍🍳", 1), ("👍🏽", 1), ("é", 1), ("e\u0301", 1), ("❤️", 1), ("👨‍👩‍👧‍👦!", 2)],
)
def test_characters_are_counted_as_a_person_does(text: str, length: int) -> None:
    assert wizard.perceived_length(text) == length


# --- the job


@pytest.mark.parametrize("said", ["x", "🦊🦊🦊", "كن مساعدا لطيفا", "Use Vec<T> & ```unclosed", "x" * 8000, "a\n\n\tb"])
def test_odd_jobs_are_taken_as_they_are(said: str) -> None:
    row = draft(DraftStep.JOB, name="Ada")

    wizard.answer_job(row, said, at=AT)

    assert (row.job, row.step) == (said, DraftStep.MODEL)


@pytest.mark.parametrize("said", ["", "  \n ", "\x00\x01"])
def test_an_empty_job_is_refused(said: str) -> None:
    with pytest.raises(Refused, match="job-empty"):
        wizard.answer_job(draft(DraftStep.JOB, name="Ada"), said, at=AT)


def test_a_job_that_is_too_long_is_refused_with_its_length() -> None:
    with pytest.raises(Refused) as refusal:
        wizard.answer_job(draft(DraftStep.JOB, name="Ada"), "x" * 8001, at=AT)

    assert (refusal.value.hint, refusal.value.values) == ("job-too-long", {"length": 8001, "limit": 8000})


def test_the_rest_of_a_split_paste_is_added_where_it_was_cut() -> None:
    row = draft(DraftStep.JOB, name="Ada")
    wizard.answer_job(row, "a" * 4096, at=AT)

    assert wizard.continues_job(row, at=AT + 1)
    wizard.extend_job(row, "b" * 100, at=AT + 1)

    assert (row.job, row.step) == ("a" * 4096 + "b" * 100, DraftStep.MODEL)


def test_two_messages_in_a_row_are_two_lines_of_the_job() -> None:
    row = draft(DraftStep.JOB, name="Ada")
    wizard.answer_job(row, "Plan meals.", at=AT)
    wizard.extend_job(row, "Be brief.", at=AT + 2)

    assert row.job == "Plan meals.\nBe brief."


@pytest.mark.parametrize("emoji", [1, 2047, 2048])
def test_parts_are_measured_as_telegram_measures_them(emoji: int) -> None:
    row = draft(DraftStep.JOB, name="Ada")
    wizard.answer_job(row, "🦊" * emoji, at=AT)
    wizard.extend_job(row, "🦊", at=AT)

    assert row.job == "🦊" * emoji + ("🦊" if emoji == 2048 else "\n🦊")


@pytest.mark.parametrize(
    ("step", "later", "continues"),
    [
        (DraftStep.MODEL, 2, True),
        (DraftStep.CHECK, 0, True),
        (DraftStep.MODEL, 3, False),
        (DraftStep.MODEL, -1, False),
        (DraftStep.JOB, 1, False),
        (DraftStep.NAME, 1, False),
    ],
)
def test_only_what_comes_at_once_after_the_job_continues_it(step: DraftStep, later: float, continues: bool) -> None:  # noqa: FBT001  a parameter
    row = draft(step, name="Ada", job="cooks", job_at=AT)

    assert wizard.continues_job(row, at=AT + later) is continues


def test_a_template_is_not_continued() -> None:
    row = draft(DraftStep.JOB, name="Ada")
    wizard.answer_job(row, "Plan meals.", at=0)

    assert not wizard.continues_job(row, at=AT)


def test_a_paste_that_is_too_long_together_leaves_no_half_of_it_as_the_job() -> None:
    row = draft(DraftStep.JOB, name="Ada", model="fast")
    wizard.answer_job(row, "a" * 4096, at=AT)
    wizard.extend_job(row, "b" * 4096, at=AT)

    assert (row.step, wizard.next_step(row)) == (DraftStep.JOB, DraftStep.JOB)
    with pytest.raises(Refused) as refusal:
        wizard.check_job(row.job)
    assert refusal.value.values == {"length": 8192, "limit": 8000}


def test_a_third_part_of_a_paste_that_is_too_long_does_not_become_the_job() -> None:
    row = draft(DraftStep.JOB, name="Ada")
    wizard.answer_job(row, "a" * 4096, at=AT)
    wizard.extend_job(row, "b" * 4096, at=AT)

    assert wizard.continues_job(row, at=AT + 1)
    wizard.extend_job(row, "c" * 10, at=AT + 1)

    assert (row.step, len(row.job)) == (DraftStep.JOB, 8202)


def test_a_shorter_job_takes_the_place_of_one_that_was_too_long() -> None:
    row = draft(DraftStep.JOB, name="Ada", job="a" * 9000, job_at=AT)

    assert not wizard.continues_job(row, at=AT + 30)
    wizard.answer_job(row, "Plan meals.", at=AT + 30)

    assert (row.job, row.step) == ("Plan meals.", DraftStep.MODEL)


# --- the model, and moving about


def test_a_model_is_chosen_by_its_key_even_if_its_id_is_too_long_for_a_button() -> None:
    long = Model("org/" + "x" * 200)
    row = draft(DraftStep.MODEL, name="Ada", job="cooks")

    assert wizard.choose_model(row, wizard.model_key(long.id), [FAST, long])

    assert (row.model, row.step) == (long.id, DraftStep.CHECK)


def test_a_model_that_is_no_longer_offered_is_not_chosen() -> None:
    row = draft(DraftStep.MODEL, name="Ada", job="cooks")

    assert not wizard.choose_model(row, "gone", [FAST])

    assert (row.model, row.step) == ("", DraftStep.MODEL)


@pytest.mark.parametrize(
    ("step", "back"),
    [(DraftStep.NAME, DraftStep.NAME), (DraftStep.JOB, DraftStep.NAME), (DraftStep.MODEL, DraftStep.JOB)],
)
def test_back_leads_to_the_question_before_while_something_is_missing(step: DraftStep, back: DraftStep) -> None:
    assert wizard.step_back(draft(step, name="Ada", job="cooks")) is back


@pytest.mark.parametrize("step", [DraftStep.NAME, DraftStep.JOB, DraftStep.MODEL])
def test_back_from_an_edit_leads_to_the_check_card(step: DraftStep) -> None:
    assert wizard.step_back(whole(step)) is DraftStep.CHECK


@pytest.mark.parametrize(
    ("row", "wanted", "step"),
    [
        (draft(), DraftStep.CHECK, DraftStep.NAME),
        (draft(DraftStep.JOB, name="Ada"), DraftStep.CHECK, DraftStep.JOB),
        (draft(DraftStep.JOB, name="Ada"), DraftStep.NAME, DraftStep.NAME),
        (whole(), DraftStep.MODEL, DraftStep.MODEL),
        (whole(DraftStep.NAME), DraftStep.CHECK, DraftStep.CHECK),
    ],
)
def test_no_button_leads_past_a_question_without_an_answer(row: Draft, wanted: DraftStep, step: DraftStep) -> None:
    wizard.go_to(row, wanted)

    assert row.step is step


# --- screens


def test_the_name_screen_suggests_and_cancels() -> None:
    shown = screen(draft())

    assert shown.text == "<b>What should it be called?</b> 1–40 characters. <i>(1/4)</i>"  # noqa: RUF001  a range
    assert buttons(shown) == [[("🎲 Suggest", "v1|suggest|"), ("✖ Cancel", "v1|cancel|")]]


def test_the_job_screen_has_templates_and_a_way_back() -> None:
    shown = screen(draft(DraftStep.JOB, name="<Ada>"))

    assert "&lt;Ada&gt;" in shown.text
    assert buttons(shown) == [
        [
            ("📚 Translator", "v1|template|translator"),
            ("🧑‍🍳 Cook", "v1|template|cook"),
            ("💻 Coder", "v1|template|coder"),
        ],
        [("◀ Back", "v1|step|name"), ("✖ Cancel", "v1|cancel|")],
    ]


def test_the_model_screen_marks_the_choice_and_tells_prices_where_known() -> None:
    shown = screen(draft(DraftStep.MODEL, name="Ada", job="cooks", model="smart"))

    assert shown.text.splitlines()[1:] == ["<code>fast</code>: $0.2 in, $1 out per 1k tokens"]
    assert buttons(shown)[:2] == [[("fast", "v1|model|fast")], [("smart 👁 🔒 TEE ✓", "v1|model|smart")]]


def test_the_check_screen_shows_everything_and_deploys_this_draft() -> None:
    row = whole()
    shown = screen(row)

    for part in ("Ada", "<code>fast</code>", "anyone with its link", "<blockquote expandable>cooks</blockquote>"):
        assert part in shown.text
    assert buttons(shown) == [
        [("🚀 Deploy", f"v1|deploy|{row.link}")],
        [("✏ Name", "v1|step|name"), ("✏ Job", "v1|step|job"), ("✏ Model", "v1|step|model")],
        [("✖ Cancel", "v1|cancel|")],
    ]
    assert shown.keyboard
    assert shown.keyboard.inline_keyboard[0][0].style == "success"


@pytest.mark.parametrize("job", ["x" * 8000, "🦊" * 8000, "👩‍🍳" * 1500, "<&>" * 2600])
def test_the_longest_job_fits_into_a_message(job: str) -> None:
    row = draft(DraftStep.CHECK, name="👩‍🍳" * 40, job=job, model="m" * 100)

    text = screen(row).text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")

    assert visible_units(text) <= 4096


def test_a_shortened_job_is_not_cut_inside_a_character() -> None:
    short = wizard.shortened("x" + "👩‍🍳" * 1000)

    assert short.endswith("👩‍🍳 …")


def test_a_job_that_fits_is_shown_whole() -> None:
    assert wizard.shortened("Plan meals.") == "Plan meals."


def test_every_button_of_the_wizard_is_understood() -> None:
    for step in DraftStep:
        for line in buttons(screen(whole(step))):
            for _, packed in line:
                pressed = parse(packed)
                assert pressed
                assert pressed.verb in {
                    Verb.SUGGEST, Verb.TEMPLATE, Verb.MODEL, Verb.STEP, Verb.DEPLOY, Verb.CANCEL,
                }  # fmt: skip
