"""`kill -9` at a chosen boundary of a chosen call, and a journal that outlives it."""

import os
import signal
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from bot.fleet.durable import Step
from tests.chaos.journal import Journal

STEPS = (
    *("plan", "renting", "reaching", "preparing", "starting", "proving", "restoring"),
    *("bring ahead", "prove", "hand over", "give back", "go on", "dozing", "last snapshot", "deleting"),
    *("put aside", "restore", "activate", "settle in"),
)
"""Of the durable engine, by their names in `bot.fleet.converge`."""
CALLS = {
    "provider": ("rent", "reach", "give_back", "listed", "strangers", "forget_stranger"),
    "engine": ("prepare", "warm", "run"),
    "ledger": ("commit", "sending", "paid", "give_up", "gone"),
    "network": ("broadcast",),
    "wallet": ("instance", "forget", "erase"),
    "books": (
        *("lease", "enter", "intend", "note", "doom", "switch", "fulfil", "fall_asleep", "fail", "release_lease"),
        *("lost", "wish", "next_epoch"),
    ),
    "chats": ("leave_all",),
    "client": ("seal", "activate", "probe", "restore"),
    "snapshots": ("save", "verify", "keep_until"),
    "shelf": ("begin", "finish"),
    "pool": ("claim", "intend", "rented", "ready", "doom", "gone"),
    "turns": ("next", "finish"),
    "rollouts": ("mark", "move"),
    "notices": ("post",),
}
BOUNDARIES = [
    f"{when} {name}"
    for name in (
        *(f"step {step}" for step in STEPS),
        *(f"{name}.{call}" for name, calls in CALLS.items() for call in calls),
    )
    for when in ("before", "after")
]
OF_THE_POOL = tuple(each for each in BOUNDARIES if each.endswith(("pool.intend", "rented", "ready", "engine.warm")))
"""Passed only where there is to be a pool."""
OF_NO_POOL = tuple(each for each in BOUNDARIES if each.endswith(("pool.doom", "pool.gone")))


class Killer:
    """Ends this process, without a word, when the boundary is passed for the `times`-th time."""

    def __init__(self, boundary: str, times: int, journal: Journal) -> None:
        self._boundary = boundary
        self._left = times
        self._journal = journal

    def watch[T](self, name: str, thing: T) -> T:
        """Have every call of this thing that matters pass through here."""
        for call in CALLS[name]:
            setattr(thing, call, self._watched(f"{name}.{call}", getattr(thing, call)))
        return thing

    def steps(self, real: Step) -> Step:
        """Have the steps of the durable engine pass through here."""

        async def step[T](name: str, function: Callable[[], Awaitable[T]], /) -> T:
            self._pass(f"before step {name}", ())
            result = await real(name, function)
            self._pass(f"after step {name}", ())
            return result

        return step

    def _watched(self, name: str, real: Any) -> Any:
        async def call(*given: Any, **named: Any) -> Any:
            self._pass(f"before {name}", given)
            result = await real(*given, **named)
            self._pass(f"after {name}", given)
            return result

        return call

    def _pass(self, boundary: str, given: Sequence[Any]) -> None:
        match boundary, given:
            case "before network.broadcast", ({"item_hash": str(item_hash)},):
                self._journal.note("sent", item_hash)
            case "after ledger.give_up", (str(reference), *_):
                self._journal.note("ended", reference)
            case "before notices.post", (str(notice_id), *_):
                self._journal.note("told", notice_id)
        if boundary == self._boundary:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
