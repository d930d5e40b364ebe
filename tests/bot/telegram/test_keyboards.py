import pytest

from bot.store.models import new_link
from bot.telegram.keyboards import Pressed, Verb, button, data, parse, rows


@pytest.mark.parametrize("verb", list(Verb))
def test_what_a_button_carries_is_read_back_for_every_verb(verb: Verb) -> None:
    link = new_link()

    assert parse(data(verb, link)) == Pressed(verb, link)
    assert len(data(verb, link).encode()) <= 64


def test_a_button_without_an_argument_is_read_back() -> None:
    assert parse(data(Verb.HOME)) == Pressed(Verb.HOME, "")


def test_an_argument_may_hold_the_separator() -> None:
    assert parse(data(Verb.MODEL, "a|b")) == Pressed(Verb.MODEL, "a|b")


@pytest.mark.parametrize("packed", [None, "", "junk", "v1", "v1|", "v1|list", "v0|list|", "v1|frobnicate|1", "|list|"])
def test_buttons_that_are_none_of_ours_are_nothing(packed: str | None) -> None:
    assert parse(packed) is None


def test_more_than_telegram_carries_is_refused_when_the_button_is_made() -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        data(Verb.MODEL, "ж" * 30)


@pytest.mark.parametrize(
    ("argument", "number"),
    [("7", 7), ("", None), ("-7", None), ("seven", None), ("²", None), ("9" * 19, None), ("9" * 50, None)],
)
def test_only_numbers_that_a_database_takes_are_numbers(argument: str, number: int | None) -> None:
    assert Pressed(Verb.CARD, argument).number == number


def test_empty_lines_of_a_keyboard_are_left_out() -> None:
    home = button("Home", Verb.HOME)

    assert rows([], [home], []).inline_keyboard == ((home,),)
