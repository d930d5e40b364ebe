"""Whether this copy of the agent is the one that works, and since which epoch.

Kept beside the database and not in it: a snapshot from another machine replaces the database, never this.
"""

import json
import os
from pathlib import Path

from agent import log
from agent.errors import BadSettings, Refused
from agent.protocol import Mode

_FILE = "mode.json"
_HELD = "This agent is being handed over to another machine. Ask again soon."
_WHY_NOT = {
    Mode.STANDBY: "This agent stands by: it waits for a snapshot and for POST /activate.",
    Mode.SEALED: "This agent was handed over to another machine. Ask the control plane where it is now.",
}


class Standing:
    """Mode and epoch of this copy; a change is on disk before it counts."""

    def __init__(self, folder: Path, first: Mode) -> None:
        """`first` is for a copy that has never been told."""
        self._path = folder / _FILE
        self.mode, self.epoch = _read(self._path) or (first, 0)
        self.is_held = False
        """No new turns, since it is about to be sealed."""

    @property
    def since(self) -> float:
        """When this was decided (Unix time); 0 if nobody ever did."""
        return self._path.stat().st_mtime if self._path.exists() else 0.0

    @property
    def takes_turns(self) -> bool:
        """Whether a new turn may begin."""
        return self.mode is Mode.ACTIVE and not self.is_held

    def require_turns(self) -> None:
        """`Refused` (409 `not_active`) unless it takes turns."""
        if not self.takes_turns:
            raise Refused(
                409, "not_active", _WHY_NOT.get(self.mode, "This agent is being handed over. Ask again soon.")
            )

    def require_active(self) -> None:
        """`Refused` (409 `not_active`) when another copy is the one that works."""
        if self.mode is not Mode.ACTIVE:
            raise Refused(409, "not_active", _WHY_NOT[self.mode])

    def require_epoch(self, epoch: int) -> None:
        """`Refused` (409 `stale_epoch`) for a call from before what was last decided."""
        if epoch < self.epoch:
            text = f"This call is of epoch {epoch}, and epoch {self.epoch} has begun. Whoever sent it is too late."
            raise Refused(409, "stale_epoch", text)

    def change(self, mode: Mode, epoch: int) -> None:
        """Be this from now on; the same again changes nothing."""
        self.require_epoch(epoch)
        if epoch == self.epoch and mode is not self.mode and epoch:
            text = f"In epoch {epoch} this agent was made {self.mode}. Another decision needs a higher epoch."
            raise Refused(409, "stale_epoch", text)
        if (mode, epoch) == (self.mode, self.epoch):
            return
        _write(self._path, mode, epoch)
        log.info("mode changed", mode=mode.value, epoch=epoch)
        self.mode, self.epoch = mode, epoch

    def stand_by(self) -> None:
        """What this copy had is lost: it must not work as if it had never had anything."""
        _write(self._path, Mode.STANDBY, self.epoch)
        self.mode = Mode.STANDBY


def _read(path: Path) -> tuple[Mode, int] | None:
    try:
        kept = json.loads(path.read_text())
        return Mode(kept["mode"]), int(kept["epoch"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadSettings(
            f"AGENT_DATA: {path} cannot be read ({error}); delete it if this agent is to work here"
        ) from error


def _write(path: Path, mode: Mode, epoch: int) -> None:
    new = path.with_suffix(".new")
    with new.open("w") as file:
        json.dump({"mode": mode.value, "epoch": epoch}, file)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
