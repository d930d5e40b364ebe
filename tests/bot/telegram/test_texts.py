"""Texts are found in the right language, filled in completely, escaped, and never silently missing."""

from importlib.resources import files
from pathlib import Path

import pytest

from bot.telegram import texts
from bot.telegram.texts import BrokenText, MissingText, Texts, load_texts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _write(
        tmp_path / "en" / "a.ftl",
        """
greet = <b>Hello</b> { $name }
free = { $count ->
    [one] one message
   *[other] { $count } messages
}
state = { $state ->
    [ready] is ready
   *[other] is not ready
}
only-english = English
""",
    )
    _write(tmp_path / "ru" / "a.ftl", "greet = Привет, { $name }\n")
    _write(tmp_path / "pt-BR" / "a.ftl", "greet = Oi, { $name }\n")
    return tmp_path


@pytest.fixture
def catalogue(folder: Path) -> Texts:
    return load_texts(folder)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("code", "language"),
    [(None, "en"), ("", "en"), ("de", "en"), ("ru", "ru"), ("RU-latn-ru", "ru"), ("pt-br", "pt-br"), ("pt", "en")],
)
def test_language_follows_telegrams_code_or_falls_back_to_english(catalogue, code, language):
    assert catalogue.speak(code).language == language


def test_values_are_escaped_and_markup_of_the_text_stays(catalogue):
    speech = catalogue.speak("en")

    assert speech("greet", name='<b>&"Ada') == "<b>Hello</b> &lt;b&gt;&amp;&quot;Ada"


def test_values_are_left_alone_in_plain_texts(catalogue):
    assert catalogue.speak("ru").plain("greet", name="A & B") == "Привет, A & B"


def test_numbers_choose_the_plural(catalogue):
    speech = catalogue.speak("en")

    assert [speech("free", count=1), speech("free", count=5000)] == ["one message", "5,000 messages"]


def test_strings_choose_a_variant(catalogue):
    speech = catalogue.speak("en")

    assert [speech("state", state="ready"), speech("state", state="<gone>")] == ["is ready", "is not ready"]


def test_right_to_left_values_are_isolated(catalogue):
    assert catalogue.speak("ru").plain("greet", name="עדה") == "Привет, \u2068עדה\u2069"


def test_a_value_cannot_leave_its_isolate(catalogue):
    assert catalogue.speak("ru").plain("greet", name="\u202eabc\u2069\u2069") == "Привет, \u2068\u202eabc\u2069"


def test_values_longer_than_fluents_own_limit_are_kept_whole(catalogue):
    assert catalogue.speak("ru")("greet", name="x" * 10_000) == "Привет, " + "x" * 10_000


def test_a_text_missing_in_a_language_is_taken_from_english(catalogue):
    assert catalogue.speak("ru")("only-english") == "English"


def test_a_missing_key_is_an_error_that_names_it(catalogue):
    with pytest.raises(MissingText, match="'nowhere' in 'ru'"):
        catalogue.speak("ru")("nowhere")


def test_a_missing_value_is_an_error_that_names_it(catalogue):
    with pytest.raises(MissingText, match=r"'greet' in 'en' cannot be filled in: .*name"):
        catalogue.speak("en")("greet")


def test_loading_refuses_an_entry_that_does_not_parse(folder):
    _write(folder / "en" / "b.ftl", "fine = Fine\nbroken\n")

    with pytest.raises(BrokenText, match=r"en/b\.ftl"):
        load_texts(folder)


def test_loading_refuses_a_key_that_stands_twice(folder):
    _write(folder / "en" / "b.ftl", "greet = Again\n")

    with pytest.raises(BrokenText, match=r"en/b\.ftl: 'greet' stands in a\.ftl already"):
        load_texts(folder)


def test_loading_refuses_a_folder_without_english(tmp_path):
    with pytest.raises(BrokenText, match=r"no \.ftl files"):
        load_texts(tmp_path)


def test_every_language_that_ships_parses_and_has_the_same_keys():
    shipped = load_texts()

    have = {language: texts.keys(files(texts) / language) for language in shipped.languages}

    assert have == dict.fromkeys(shipped.languages, have["en"])
    assert "relay-stop" in have["en"]
