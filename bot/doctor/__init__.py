"""`baal doctor`: look at everything that the bot needs, and say in one line each what to do about what is wrong."""

import ssl
import time
from collections.abc import Callable, Iterator
from urllib.parse import unquote

import httpx
from pydantic import SecretStr

from bot.doctor import aleph, bot_api, clock, configuration, database, folder, image, inference, servers, snapshots
from bot.doctor.checks import Check, run_all
from bot.doctor.findings import Finding, Mark, table
from bot.errors import BadSettings
from bot.settings import Settings, encryption_keys, read_usable_settings


async def examine(now: Callable[[], float] = time.time) -> tuple[str, bool]:
    """The table, and whether nothing in it is wrong. It takes as long as the slowest check, ten seconds at most."""
    try:
        settings, complaints, broken = read_usable_settings()
    except BadSettings as error:
        return table([Finding(Mark.WRONG, configuration.NAME, each) for each in str(error).splitlines()], ()), False
    # One context for all: making it takes longer than most of the questions.
    async with httpx.AsyncClient(verify=ssl.create_default_context()) as http:
        found = await run_all(checks(settings, http, now), broken)
    findings = [*configuration.findings(settings, complaints), *found]
    return table(findings, secrets(settings)), all(each.mark is not Mark.WRONG for each in findings)


def checks(settings: Settings, http: httpx.AsyncClient, now: Callable[[], float]) -> list[Check]:
    """All of them, in the order of the table."""
    content = database.reading(settings)
    return [
        *folder.checks(settings),
        *snapshots.checks(settings),
        *database.checks(settings, content),
        *bot_api.checks(settings, http),
        *inference.checks(settings, http),
        *image.checks(settings, http),
        *servers.checks(settings, content, now),
        *aleph.checks(settings, http),
        *clock.checks(settings, http, now),
    ]


def secrets(settings: Settings) -> Iterator[str]:
    """What must not be seen, in every way in which it might be written."""
    for name in Settings.model_fields:
        value = getattr(settings, name)
        if isinstance(value, SecretStr) and name != "database_url":
            yield value.get_secret_value()
        elif isinstance(value, str):
            yield _password(value)
    yield from encryption_keys(settings.bot_encryption_key)
    yield settings.telegram_bot_token.get_secret_value().partition(":")[2]
    yield settings.aleph_private_key.get_secret_value().strip().removeprefix("0x")
    password = _password(settings.database_url.get_secret_value())
    yield from (password, unquote(password))


def _password(url: str) -> str:
    """That of an address like `https://user:password@host`; empty where there is none."""
    login = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
    return login.partition(":")[2] or login
