from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import model_validator

from bot.errors import BadSettings
from bot.settings import Settings, encryption_keys, read_settings, read_usable_settings

GOOD = {"telegram_bot_token": "4242:abc", "bot_encryption_key": Fernet.generate_key().decode()}


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch, tmp_path):
    for name in ("TELEGRAM_BOT_TOKEN", "BOT_ENCRYPTION_KEY", "LIBERTAI_API_KEY", "DATABASE_URL", "LLM_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_file_that_cannot_be_read_is_said_so(tmp_path):
    (tmp_path / ".env").write_bytes(b"TELEGRAM_BOT_TOKEN=\xff")

    for read in (read_settings, read_usable_settings):
        with pytest.raises(BadSettings, match=r"^\.env cannot be read \(UnicodeDecodeError\); let this user read it"):
            read()


def test_settings_that_cannot_be_used_are_replaced_and_named(monkeypatch):
    monkeypatch.setenv("PROVIDER", "moon")
    monkeypatch.setenv("HTTP_PORT", "8080")
    settings, complaints, fields = read_usable_settings()

    assert [complaint.split()[0] for complaint in complaints] == [
        "TELEGRAM_BOT_TOKEN",
        "BOT_ENCRYPTION_KEY",
        "PROVIDER",
    ]
    assert fields == {"telegram_bot_token", "bot_encryption_key", "provider"}
    assert (settings.provider, settings.http_port) == ("local", 8080)


class _Fitting(Settings):
    """With two that must fit together."""

    @model_validator(mode="after")
    def _fit(self) -> Any:
        if self.log_level == "LOUD" and self.max_agents_per_user == 3:
            raise ValueError("LOG_LEVEL=LOUD does not go with MAX_AGENTS_PER_USER=3")
        return self


def test_of_settings_that_do_not_fit_together_the_first_named_is_replaced(monkeypatch):
    monkeypatch.setattr("bot.settings.Settings", _Fitting)
    monkeypatch.setenv("LOG_LEVEL", "LOUD")
    monkeypatch.setenv("TELEGRAM_BOT_TOKEN", "4242:abc")
    settings, complaints, fields = read_usable_settings()

    assert [complaint.split()[0] for complaint in complaints] == ["BOT_ENCRYPTION_KEY", "LOG_LEVEL=LOUD"]
    assert fields == {"bot_encryption_key", "log_level"}
    assert settings.log_level == "INFO"


def test_each_missing_setting_is_named_with_what_to_do():
    with pytest.raises(BadSettings) as caught:
        read_settings()

    assert str(caught.value) == (
        "TELEGRAM_BOT_TOKEN is not set. See .env.example.\nBOT_ENCRYPTION_KEY is not set. See .env.example."
    )


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("telegram_bot_token", "not-a-token-but-secret", "TELEGRAM_BOT_TOKEN is not a bot token"),
        ("bot_encryption_key", "not-a-key-but-secret", "BOT_ENCRYPTION_KEY is not a Fernet key; `baal new-key`"),
        ("free_tier_daily_messages", "-1", "FREE_TIER_DAILY_MESSAGES Input should be greater"),
        ("provider", "moon", "PROVIDER Input should be 'local'"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_is_not_repeated(name, value, says):
    with pytest.raises(BadSettings) as caught:
        read_settings(**{**GOOD, name: value})

    assert str(caught.value).startswith(says)
    assert "secret" not in str(caught.value)


def test_several_encryption_keys_are_read_in_order():
    keys = [Fernet.generate_key().decode() for _ in range(2)]

    settings = read_settings(**{**GOOD, "bot_encryption_key": ", ".join(keys)})

    assert encryption_keys(settings.bot_encryption_key) == keys


@pytest.mark.parametrize(
    ("url", "is_libertai"),
    [("", True), ("https://api.libertai.io/v1/", True), ("http://127.0.0.1:8080/v1", False)],
)
def test_libertais_models_are_told_from_those_of_another_server(url, is_libertai):
    assert read_settings(**GOOD, llm_base_url=url).thinks_at_libertai is is_libertai


@pytest.mark.parametrize(("said", "read"), [("", None), ("true", True), ("False", False)])
def test_whether_agents_have_tools_may_be_left_open(monkeypatch, said, read):
    monkeypatch.setenv("AGENT_TOOLS", said)

    assert read_settings(**GOOD).agent_tools is read


def test_models_are_split_at_commas(monkeypatch):
    monkeypatch.setenv("DEFAULT_MODELS", "one, two,")

    assert read_settings(**GOOD).default_models == ("one", "two")


def test_databases_are_sqlite_in_the_data_folder_by_default(tmp_path):
    settings = read_settings(**GOOD)

    assert settings.database == f"sqlite+aiosqlite:///{tmp_path}/data/baal.sqlite"
    assert settings.durable_database == f"sqlite:///{tmp_path}/data/durable.sqlite"


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_postgres_url_is_read_in_each_of_its_spellings(scheme):
    settings = read_settings(**GOOD, database_url=f" {scheme}://baal:p%40ss@db:5433/baal?sslmode=require\n")

    assert settings.database == "postgresql+psycopg://baal:p%40ss@db:5433/baal?sslmode=require"
    assert settings.durable_database == settings.database


def test_a_sqlite_url_needs_no_driver(tmp_path):
    settings = read_settings(**GOOD, database_url=f"sqlite:///{tmp_path}/other.sqlite")

    assert settings.database == f"sqlite+aiosqlite:///{tmp_path}/other.sqlite"
    assert settings.durable_database == f"sqlite:///{tmp_path}/data/durable.sqlite"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("secret", "is not a database URL; write postgresql://user:password@host"),
        ("postgresql://baal:pw@db:secret/baal", "is not a database URL"),
        ("postgresql://baal:pw@a:b@secret/baal", "is not a database URL"),
        ("mysql://baal:secret@db/baal", "names a database or a driver that Baal does not use"),
        ("postgresql+asyncpg://baal:secret@db/baal", "names a database or a driver that Baal does not use"),
        ("postgresql://baal:secret@db", "names no database"),
        ("postgresql://baal:secret@db:5432/", "names no database"),
        ("postgresql://baal:p@secret@db/baal", "has an @ too many"),
        ("postgresql://baal:p@sec/ret@db/baal", "has an @ too many"),
    ],
)
def test_a_wrong_database_url_is_told_and_not_repeated(url, says):
    with pytest.raises(BadSettings) as caught:
        read_settings(**GOOD, database_url=url)

    assert str(caught.value).startswith(f"DATABASE_URL {says}")
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_password_of_the_database_is_not_shown():
    settings = read_settings(**GOOD, database_url="postgresql://baal:hidden@db/baal")

    assert "hidden" not in repr(settings)


def test_agents_think_at_libertai_unless_another_server_is_named():
    assert read_settings(**GOOD).inference_url == "https://api.libertai.io/v1"
    assert read_settings(**GOOD, llm_base_url="http://127.0.0.1:9/v1/").inference_url == "http://127.0.0.1:9/v1"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"provider": "aleph"}, "ACME_EMAIL must be an address that the authority of AGENT_TLS=acme"),
        ({"provider": "aleph", "acme_email": "a@b"}, "ACME_EMAIL must be an address"),
        ({}, "AGENT_TLS=acme needs machines with public names; with PROVIDER=local"),
        ({"provider": "hosts", "acme_email": "a@example.org"}, "AGENT_TLS=acme: a public authority asks at port 443"),
    ],
)
def test_a_public_certificate_for_what_has_no_public_name_is_refused_with_what_to_do(settings, says):
    with pytest.raises(BadSettings) as caught:
        read_settings(**GOOD, agent_tls="acme", **settings)

    assert str(caught.value).startswith(says)


def test_machines_with_public_names_may_have_public_certificates():
    made = read_settings(**GOOD, agent_tls="acme", acme_email="a@example.org", provider="aleph")
    assert made.agent_tls == "acme"


def test_operators_are_told_by_their_ids():
    assert read_settings(**GOOD, admin_ids="42, -1001").admin_ids == (42, -1001)


@pytest.mark.parametrize("ids", ["olga", "0"])
def test_an_operator_is_named_by_an_id(ids):
    with pytest.raises(BadSettings, match="ADMIN_IDS"):
        read_settings(**GOOD, admin_ids=ids)
