"""What ready answers look like on a phone."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.telegram.choices import COLUMNS, MOST, choice_keyboard, choice_list, chosen_line
from bot.telegram.render import utf16_length


def labels(*options: str) -> list[list[str]]:
    return [[button.text for button in row] for row in choice_keyboard("u1", options).inline_keyboard]


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["Yes", "No"], [["Yes", "No"]]),
        (["Yes", "No", "Maybe"], [["Yes", "No"], ["Maybe"]]),
        (["Yes", "A bit longer than that", "No", "Never"], [["Yes"], ["A bit longer than that"], ["No", "Never"]]),
        (["Twelve columns", "Fifteen columns"], [["Twelve columns"], ["Fifteen columns"]]),
        (["七つの文字です", "八つの文字でした"], [["七つの文字です"], ["八つの文字でした"]]),
        (["  two\nlines ", "\u202eturned"], [["two lines", "turned"]]),
    ],
)
def test_one_answer_per_row_and_two_where_both_are_short(options, shown):
    assert labels(*options) == shown


def test_a_button_says_which_of_all_options_it_is():
    keyboard = choice_keyboard("u1", ["A", " \n", "B"])

    assert [button.callback_data for row in keyboard.inline_keyboard for button in row] == [
        "v1|choose|u1|0", "v1|choose|u1|2",
    ]  # fmt: skip


def test_what_no_button_shows_in_full_is_listed_and_numbered():
    long = "The one with the mushrooms, without cream, and for two people"

    assert labels("Soup", long) == [["1. Soup"], ["2. The one with the mushrooms,…"]]
    assert choice_list(["Soup", long]) == f"1. Soup\n2. {long}"
    assert choice_list(["Soup", "Salad"]) == choice_list([]) == choice_list([" "]) == ""


def test_the_chosen_answer_is_one_short_line():
    assert chosen_line(" Tea\nplease ") == "→ Tea please"
    assert chosen_line("a" * 500) == f"→ {'a' * 79}…"


@given(st.lists(st.text(max_size=400), max_size=120))
def test_whatever_the_options_are_telegram_takes_them_and_they_fit(options):
    keyboard = choice_keyboard("u" + "9" * 19, options).inline_keyboard
    buttons = [button for row in keyboard for button in row]

    assert len(buttons) <= MOST
    assert all(button.text.strip() and len(button.text) <= 2 * COLUMNS for button in buttons)
    assert all(1 <= len(row) <= 2 for row in keyboard)
    assert utf16_length(choice_list(options)) <= 2_800
