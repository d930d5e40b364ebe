"""`baal money`: read the database beside the bot that runs, ask the network for the balance, print a table."""

import asyncio
import json
import logging
import math
import sys
from dataclasses import asdict
from typing import Any

import httpx

from bot.commands.beside import opened
from bot.errors import BaalError, DatabaseLost, MachineError
from bot.fleet.money import Account, Money, Usage
from bot.fleet.runway import Burn
from bot.machines.provider import Place
from bot.settings import ProviderName, Settings, read_settings
from bot.store.database import Database

NETWORK_SECONDS = 30.0
NAME_CHARACTERS = 24
HEAD = ("AGENT", "NAME", "OWNER", "STATE", "HOURS", "CREDITS", "30 DAYS")
"""Hours and credits of this month."""
LEFT = 4
"""So many columns are words."""


def work(*, as_json: bool) -> int:
    """Print it; the exit code. `BadSettings` if there is no database to read."""
    # What libraries log may hold secrets, and says nothing that the error does not.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        print(asyncio.run(_report(read_settings(), as_json=as_json)))
    except DatabaseLost as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _report(settings: Settings, *, as_json: bool) -> str:
    async with opened(settings) as database, httpx.AsyncClient(timeout=NETWORK_SECONDS) as http:
        money = Money(database, await _provider(settings, database, http))
        accounts, total = await money.accounts(), await money.total()
        burn, trouble = await _balance(money)
    return _json(accounts, total, burn, trouble) if as_json else table(accounts, total, burn, trouble)


async def _balance(money: Money) -> tuple[Burn | None, str]:
    """What is there, and why it is not known."""
    try:
        return await money.burn(), ""
    except MachineError as error:
        return None, str(error)


async def _provider(settings: Settings, database: Database, http: httpx.AsyncClient) -> Any:
    """The one that is paid, to ask it for the balance; None where machines are one's own."""
    if settings.provider is not ProviderName.ALEPH:
        return None
    # Here, because with other providers nobody needs it: 2 s and 50 MB.
    from bot.machines.aleph.opening import open_aleph  # noqa: PLC0415

    return await open_aleph(settings, database, http, public_key="", wipe=_keep)


async def _keep(place: Place) -> None:
    raise BaalError(f"{place.machine_id} is not to be wiped from here")


def table(accounts: list[Account], total: Usage, burn: Burn | None, trouble: str = "") -> str:
    """A line per agent, the sums, and how long the balance lasts; hours and credits of this month."""
    rows = [HEAD, *(_row(each) for each in accounts), ("", "total", "", "", *_figures(total))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    lines = ["  ".join(_aligned(row, widths)).rstrip() for row in rows]
    return "\n".join(
        [*lines, "", f"ever: {total.hours:,.0f} hours, {total.credits:,} credits", *_runway(burn, trouble)]
    )


def _row(account: Account) -> tuple[str, ...]:
    name = account.name if len(account.name) <= NAME_CHARACTERS else f"{account.name[: NAME_CHARACTERS - 1]}…"
    return (str(account.agent_id or ""), name, str(account.owner_id or ""), account.state, *_figures(account.usage))


def _figures(usage: Usage) -> tuple[str, ...]:
    return (f"{usage.hours_month:,.1f}", f"{usage.credits_month:,}", f"{usage.forecast:,}")


def _aligned(row: tuple[str, ...], widths: list[int]) -> list[str]:
    pairs = enumerate(zip(row, widths, strict=True))
    return [text.ljust(width) if column < LEFT else text.rjust(width) for column, (text, width) in pairs]


def _runway(burn: Burn | None, trouble: str) -> list[str]:
    if trouble:
        return [f"balance: not known ({trouble})"]
    if burn is None:
        return []
    lasts = "for ever: nothing is spent" if math.isinf(burn.hours) else f"{burn.hours:,.0f} hours"
    return [f"balance: {burn.balance:,} credits, which last {lasts}"]


def _json(accounts: list[Account], total: Usage, burn: Burn | None, trouble: str) -> str:
    balance: dict[str, Any] = {"credits": burn.balance if burn else None, "runway_hours": None}
    if burn and not math.isinf(burn.hours):
        balance["runway_hours"] = burn.hours
    if trouble:
        balance["trouble"] = trouble
    agents = [{**asdict(each), "usage": _usage(each.usage)} for each in accounts]
    return json.dumps({"agents": agents, "total": _usage(total), "balance": balance}, indent=2)


def _usage(usage: Usage) -> dict[str, float]:
    return {**asdict(usage), "forecast": usage.forecast}
