"""The settings in force: the environment's, and over them what was changed by a call. Read anew for each turn.

Kept are only the fields that were changed, so that the others go on following the environment.
"""

import json
from typing import Any

from pydantic import ValidationError

from agent.errors import Refused
from agent.protocol import Config
from agent.settings import Settings
from agent.store import Store

_SCHEMA = """
CREATE TABLE IF NOT EXISTS config (
    id INTEGER PRIMARY KEY CHECK (id = 1), version INTEGER NOT NULL, changes TEXT NOT NULL);
"""
_STALE = "This agent's configuration is version {ours} already; send a higher one."


class Live:
    """An agent's settings, as they are now."""

    def __init__(self, settings: Settings, store: Store) -> None:
        store.prepare(_SCHEMA)
        self._settings = settings
        self._store = store
        self._row: Any = None
        self._in_force: Settings | None = None

    def settings(self) -> Settings:
        """All of them. The caller keeps what it got for as long as its turn runs."""
        row = self._read()
        if self._in_force is None or row != self._row:
            version, changes = self._kept()
            known = {name: value for name, value in changes.items() if name in Settings.model_fields}
            self._row = row
            self._in_force = self._settings.model_copy(update={**known, "agent_config_version": version})
        return self._in_force

    def config(self) -> Config:
        """Those that can be changed, with their version."""
        settings = self.settings()
        fields = {name: getattr(settings, _setting(name), None) for name in Config.model_fields if name != "version"}
        return Config(version=settings.agent_config_version, **fields)

    def change(self, config: Config) -> None:
        """Take a newer configuration; one of the same version is done already.

        `Refused` (409) if it is older than what is in force, and (400) if the environment could not say it either.
        """
        version, changes = self._kept()
        if config.version < version:
            raise Refused(409, "stale_config", _STALE.format(ours=version))
        if config.version == version:
            return
        changes |= self._checked(config)
        self._store.execute(
            "INSERT INTO config (id, version, changes) VALUES (1, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET version = ?1, changes = ?2",
            (config.version, json.dumps(changes)),
        )
        self._store.commit()

    def _kept(self) -> tuple[int, dict[str, Any]]:
        """Version and changed settings; what was changed before the environment's version is void."""
        row = self._read()
        if row is None or row[0] <= self._settings.agent_config_version:
            return self._settings.agent_config_version, {}
        return row[0], json.loads(row[1])

    def _read(self) -> Any:
        return self._store.execute("SELECT version, changes FROM config").fetchone()

    def _checked(self, config: Config) -> dict[str, Any]:
        """The changes, checked as strictly as the environment's variables, and cleaned as they are."""
        asked = config.model_dump(exclude={"version"}, exclude_none=True)
        try:
            checked = Settings(**self._settings.model_dump() | {_setting(name): value for name, value in asked.items()})
        except ValidationError as error:
            problems = error.errors(include_input=False, include_url=False)
            raise Refused(400, "bad_config", "; ".join(map(_problem, problems))) from None
        return {_setting(name): getattr(checked, _setting(name)) for name in asked}


def _setting(name: str) -> str:
    return f"agent_{name}"


def _problem(problem: Any) -> str:
    name = str(problem["loc"][0]).removeprefix("agent_")
    if problem["type"] == "extra_forbidden":
        return f"{name}: this agent has no such setting"
    return f"{name}: {problem['msg']}"
