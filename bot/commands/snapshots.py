"""`baal snapshots` and `baal restore`: what is kept of agents, and an agent put back to it by the bot that runs."""

import sys
import time
from typing import Any

HEAD = ("SNAPSHOT", "AGENT", "NAME", "TAKEN (UTC)", "WHY", "BYTES", "KEPT UNTIL")


def add_snapshots(commands: Any) -> None:
    """Add both commands to a parser's."""
    about = "What is kept of agents, the newest first."
    listing = commands.add_parser("snapshots", help=about, description=about)
    listing.add_argument("agent", type=int, nargs="?", metavar="AGENT", help="number of one agent")
    listing.set_defaults(run=_list)
    about = "Put an agent back to a snapshot, on a new machine; what it is now is kept for seven days."
    restore = commands.add_parser("restore", help=about, description=about)
    restore.add_argument("agent", type=int, metavar="AGENT", help="its number")
    restore.add_argument(
        "snapshot", metavar="SNAPSHOT", help="of this agent or another one: `baal snapshots` lists them"
    )
    restore.set_defaults(run=_restore)


def _list(**words: Any) -> None:
    sys.exit(_run(_listed(words["agent"])))


def _restore(**words: Any) -> None:
    sys.exit(_run(_restored(words["agent"], words["snapshot"])))


def _run(work: Any) -> int:
    # Here and below, because `baal --help` and `baal health` should not wait for it.
    import asyncio  # noqa: PLC0415
    import logging  # noqa: PLC0415

    from bot.errors import DatabaseLost, SnapshotError  # noqa: PLC0415

    # What libraries log may hold secrets, and says nothing that the error does not.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        print(asyncio.run(work))
    except (DatabaseLost, SnapshotError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


async def _listed(agent_id: int | None) -> str:
    from bot.commands.beside import opened  # noqa: PLC0415
    from bot.fleet.shelf import kept  # noqa: PLC0415
    from bot.settings import read_settings  # noqa: PLC0415

    async with opened(read_settings()) as database:
        rows = await kept(database, agent_id)
    if not rows:
        return "Nothing is kept."
    lines = [HEAD, *(_line(snapshot, name) for snapshot, name in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)


def _line(snapshot: Any, name: str) -> tuple[str, ...]:
    until = _day(snapshot.keep_until) if snapshot.keep_until else ""
    taken, size = _day(snapshot.created_at), f"{snapshot.size:,}"
    return (snapshot.id, str(snapshot.agent_id), name[:24], taken, snapshot.reason.value, size, until)


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at))


async def _restored(agent_id: int, snapshot_id: str) -> str:
    from bot.commands.beside import NOBODY_ACTS, opened, user  # noqa: PLC0415
    from bot.errors import SnapshotError  # noqa: PLC0415
    from bot.fleet.books import Books  # noqa: PLC0415
    from bot.fleet.shelf import whole  # noqa: PLC0415
    from bot.settings import read_settings  # noqa: PLC0415
    from bot.store.audit import Auditor  # noqa: PLC0415
    from bot.store.models import Wanted  # noqa: PLC0415
    from bot.store.presence import is_bot_running  # noqa: PLC0415

    settings = read_settings()
    async with opened(settings) as database:
        snapshot = await whole(database, snapshot_id)
        if not await Books(database).wish(agent_id, wanted=Wanted.ON, restore=snapshot.id):
            raise SnapshotError(f"there is no agent {agent_id}, it is deleted, or that is wanted of it already")
        await Auditor(database).note(user(), "restore", agent_id, snapshot=snapshot.id)
        said = f"Agent {agent_id} goes back to {snapshot.id}: within half a minute it is on its way to a new machine."
        return said if await is_bot_running(database, settings.data_dir) else f"{said}\n{NOBODY_ACTS}"
