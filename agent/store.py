"""What an agent keeps: messages, turns and their events in one SQLite file.

Plain SQL, since it runs for every piece of every answer: a sqlmodel write costs 40 times as much, and importing that
half a second and 38 MB. There is one writer, on the event loop's thread: at synchronous=NORMAL a commit is cheaper
than handing it to another thread. What one round of the loop writes is committed together.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from msgspec import Struct

from agent import log
from agent.calls import Call
from agent.database import Database, is_full
from agent.errors import BadSettings

NEWEST_IMAGES = 4
"""So many of a chat's images go to the model: LibertAI takes no more in a request."""
SCHEMA_VERSION = 1
"""Counts what was added: tables, and columns with a default. Nothing else may change, or no update can be undone."""
READABLE_FROM = 1
"""The lowest schema whose code can work with a database of ours: it passes over what it does not know."""
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
_LOST = "agent.db.lost"
"""What was wrong with the database that this empty one stands for, until a snapshot takes its place."""
_PAGES_AT_ONCE = 256
"""Of a copy: a megabyte, between which others may write."""
_CHECKPOINT = "wal_autocheckpoint=4000"
"""In pages, 16 MB: the same pages are written by turn after turn, and this often each goes into the file once."""
ROOM_SECONDS = 5.0
"""After so long a full disk is tried again."""
KEEP_TURNS_SECONDS = 7 * 24 * 3600
"""How long a client may take to fetch the end of a turn."""


class Speaker(StrEnum):
    """Who said a message."""

    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


_SPEAKERS = {speaker.value: speaker for speaker in Speaker}  # Speaker(…) is slow, and a history is 100 of them


class TurnState(StrEnum):
    """How far a turn is. Why it failed is told by its last event."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


# AUTOINCREMENT: the number of a message that was dropped may stand in a summary, and must not become another's.
# Turns have no index: they are listed at the start, swept once a day and forgotten by chat, but written all the time.
# A turn's events up to number `base` are void: it was run again. An event's `line` is encoded for the wire.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS turn (
    id TEXT PRIMARY KEY, chat_id TEXT NOT NULL, state TEXT NOT NULL, base INTEGER NOT NULL, created REAL NOT NULL);
DROP INDEX IF EXISTS turn_by_state;
DROP INDEX IF EXISTS turn_by_chat;
CREATE TABLE IF NOT EXISTS event (
    turn_id TEXT NOT NULL, seq INTEGER NOT NULL, line TEXT NOT NULL, PRIMARY KEY (turn_id, seq)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS message (
    id INTEGER PRIMARY KEY AUTOINCREMENT, chat_id TEXT NOT NULL, turn_id TEXT NOT NULL, speaker TEXT NOT NULL,
    text TEXT NOT NULL, calls TEXT NOT NULL DEFAULT '', call_id TEXT NOT NULL DEFAULT '',
    aside TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS message_by_chat ON message (chat_id, id);
CREATE INDEX IF NOT EXISTS message_by_turn ON message (turn_id);
CREATE TABLE IF NOT EXISTS note (id INTEGER PRIMARY KEY AUTOINCREMENT, scope TEXT NOT NULL, text TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS note_by_scope ON note (scope, id);
CREATE TABLE IF NOT EXISTS summary (chat_id TEXT PRIMARY KEY, up_to INTEGER NOT NULL, text TEXT NOT NULL);
"""
_MESSAGE = "id, speaker, text, calls, call_id, aside, images"
# Additive only: what an older version wrote is read by a newer one, and the other way round.
_NEW_COLUMNS = {"message": dict.fromkeys(("calls", "call_id", "aside", "images"), "TEXT NOT NULL DEFAULT ''")}


@dataclass(frozen=True, slots=True)
class StoredTurn:
    """A turn as the store knows it."""

    id: str
    chat_id: str
    state: TurnState
    base: int


class Aside(Struct, frozen=True):
    """What went to the model with a question and is not the person's: the moment, and what is known besides.

    `scope` is whose knowledge it is; nobody else may see it.
    """

    scope: str = ""
    moment: str = ""
    facts: str = ""


NOTHING = Aside()


class Message(Struct, frozen=True):  # is made in a third of the time of a frozen dataclass, a hundred for each turn
    """Something that was said in a chat.

    An assistant's may ask for `calls`; then one of the tool's follows for each, with its `call_id`. A user's has an
    `aside` once it was sent, and may bring `images`: the ids of their files.
    """

    speaker: Speaker
    text: str
    calls: tuple[Call, ...] = ()
    call_id: str = ""
    aside: Aside | None = None
    images: tuple[str, ...] = ()


class Store:
    """The one writer of the agent's database."""

    def __init__(self, folder: Path | None) -> None:
        """Open the database in this folder, or create it; `BadSettings` if that cannot be done. None: in memory."""
        self.damage = ""
        """What was wrong with the database that was found; empty if nothing was."""
        self._path = folder / "agent.db" if folder else None
        self._prepared: list[str] = []
        try:
            if folder:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._database = Database(self._open_or_set_aside())
        except (OSError, sqlite3.Error) as error:
            raise BadSettings(f"AGENT_DATA: cannot use {folder}: {error}") from error
        self._waiting: list[Callable[[], None]] = []
        self._retry: asyncio.TimerHandle | None = None

    def prepare(self, schema: str) -> None:
        """Make the tables of a part of the agent that keeps things here, unless they are there (`IF NOT EXISTS`)."""
        self._prepared.append(schema)
        self._database.connection.executescript(schema)

    def execute(self, statement: str, values: Sequence[object] = ()) -> sqlite3.Cursor:
        """For those parts. What is written is safe at the next `commit`, or when `after_commit` calls back."""
        return self._database.execute(statement, values)

    def copy_to(self, path: Path) -> None:
        """Write a consistent copy of the database into a new file; to be called in a thread, while turns go on."""
        target = sqlite3.connect(path)
        try:
            target.execute("PRAGMA synchronous=OFF")  # after a crash nobody wants it
            self._database.connection.backup(target, pages=_PAGES_AT_ONCE)
            # One file, without a journal beside it.
            target.execute("PRAGMA journal_mode=DELETE")
        finally:
            target.close()

    def replace_with(self, path: Path) -> None:
        """Go on with another database file, which becomes ours; it was checked."""
        if self._path is None:
            raise ValueError("a store in memory has no file")
        self._commit()
        self._database.connection.close()
        try:
            self._path.with_name(f"{self._path.name}-wal").unlink(missing_ok=True)
            path.replace(self._path)
        finally:
            self._database = Database(_open(self._path, is_checked=True))
            for schema in self._prepared:
                self._database.connection.executescript(schema)
        self._path.with_name(_LOST).unlink(missing_ok=True)
        self.damage = ""

    def freeze(self) -> None:
        """Let nothing be written any more; all that was is in the one file. `sqlite3.OperationalError` without room."""
        self._commit()
        self._database.commit()
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.execute("PRAGMA query_only=ON")

    def thaw(self) -> None:
        """Let it be written again."""
        self._database.execute("PRAGMA query_only=OFF")

    def _open_or_set_aside(self) -> sqlite3.Connection:
        """Open it; one that is damaged is kept beside, for whoever can make something of it."""
        if self._path is None:
            return _open(None)
        lost = self._path.with_name(_LOST)
        if lost.exists():
            self.damage = lost.read_text()
        try:
            if self._path.exists() and not self._path.stat().st_size:
                raise _corrupt("the file is empty")
            return _open(self._path)
        except sqlite3.DatabaseError as error:
            if error.sqlite_errorcode not in _DAMAGED:
                raise
            self.damage = str(error)
        lost.write_text(self.damage)
        self._set_aside(self._path)
        return _open(self._path)

    def _set_aside(self, path: Path) -> None:
        aside = path.with_name(f"{path.name}.damaged-{int(time.time())}")
        for left in ("", "-wal"):
            with suppress(FileNotFoundError):
                path.with_name(path.name + left).rename(f"{aside}{left}")
        log.warning("database damaged and set aside", file=aside.name, reason=self.damage)

    def commit(self) -> None:
        """Make everything written so far safe now."""
        self._database.commit()

    def close(self) -> None:
        """Commit what is open, and close."""
        self._commit()
        if self._retry:
            self._retry.cancel()
            log.warning("disk full: the newest is lost")
        self._database.connection.close()

    def after_commit(self, callback: Callable[[], None]) -> None:
        """Call back when everything written so far is committed, in the next round of the event loop."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._commit)
        self._waiting.append(callback)

    def _commit(self) -> None:
        callbacks, self._waiting = self._waiting, []
        try:
            self._commit_or_retry()
        finally:  # a full disk must not silence an answer that exists
            for callback in callbacks:
                callback()

    def _commit_or_retry(self) -> None:
        if self._retry:
            self._retry.cancel()
        self._retry = None
        try:
            self._database.commit()
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            log.warning("disk full: what was said waits for room")
            self._retry = asyncio.get_running_loop().call_later(ROOM_SECONDS, self._commit_or_retry)

    def as_far_as_there_is_room(self) -> AbstractContextManager[None]:
        """For what is already being said: on a full disk it waits until there is room."""
        return self._database.patient()

    def add_turn(self, turn_id: str, chat_id: str) -> None:
        """Keep that a turn was accepted, before anything is answered."""
        turn = (turn_id, chat_id, TurnState.RUNNING.value, time.time())
        self._database.at_once(
            lambda: self.execute("INSERT INTO turn (id, chat_id, state, base, created) VALUES (?, ?, ?, 0, ?)", turn)
        )

    def rerun_turn(self, turn_id: str, base: int) -> None:
        """Make a failed turn a running one; its events so far are void."""
        self._database.execute("DELETE FROM event WHERE turn_id = ?", (turn_id,))
        self._database.execute(
            "UPDATE turn SET state = ?, base = ? WHERE id = ?", (TurnState.RUNNING.value, base, turn_id)
        )

    def end_turn(self, turn_id: str, state: TurnState) -> None:
        """Keep how a turn ended."""
        self._database.execute("UPDATE turn SET state = ? WHERE id = ?", (state.value, turn_id))

    def find_turn(self, turn_id: str) -> StoredTurn | None:
        """Find a turn by its id."""
        row = self._database.execute("SELECT id, chat_id, state, base FROM turn WHERE id = ?", (turn_id,)).fetchone()
        return row and StoredTurn(row[0], row[1], TurnState(row[2]), row[3])

    def running_turns(self) -> list[StoredTurn]:
        """List the turns that never ended."""
        rows = self._database.execute(
            "SELECT id, chat_id, state, base FROM turn WHERE state = ? ORDER BY created", (TurnState.RUNNING.value,)
        )
        return [StoredTurn(row[0], row[1], TurnState(row[2]), row[3]) for row in rows]

    def drop_old_turns(self) -> None:
        """Forget ended turns that nobody will ask for again. The history is not touched."""
        old = "state != ? AND created < ?"
        bounds = (TurnState.RUNNING.value, time.time() - KEEP_TURNS_SECONDS)
        self._database.execute(f"DELETE FROM event WHERE turn_id IN (SELECT id FROM turn WHERE {old})", bounds)  # noqa: S608 - a constant
        self._database.execute(f"DELETE FROM turn WHERE {old}", bounds)  # noqa: S608 - a constant
        self._database.commit()

    def add_event(self, turn_id: str, seq: int, line: str) -> None:
        """Keep an encoded event."""
        self._database.execute("INSERT INTO event (turn_id, seq, line) VALUES (?, ?, ?)", (turn_id, seq, line))

    def events(self, turn_id: str) -> list[str]:
        """List a turn's encoded events in their order."""
        rows = self._database.execute("SELECT line FROM event WHERE turn_id = ? ORDER BY seq", (turn_id,))
        return [row[0] for row in rows]

    def add_messages(self, turn_id: str, chat_id: str, messages: Sequence[Message]) -> None:
        """Append to a chat's history."""
        for each in messages:
            self._database.execute(
                "INSERT INTO message (chat_id, turn_id, speaker, text, calls, call_id, images) "
                "VALUES (?, ?, ?, ?, ?, ?, ?)",
                (chat_id, turn_id, *_columns(each)),
            )

    def replace_text(self, number: int, text: str) -> None:
        """Change what a message says."""
        self._database.execute("UPDATE message SET text = ? WHERE id = ?", (text, number))

    def keep_aside(self, number: int, aside: Aside) -> None:
        """Keep what goes with a message."""
        line = json.dumps([aside.scope, aside.moment, aside.facts])
        self._database.execute("UPDATE message SET aside = ? WHERE id = ?", (line, number))

    def drop_messages(self, turn_id: str) -> None:
        """Take out of the history what a turn put into it."""
        self._database.execute("DELETE FROM message WHERE turn_id = ?", (turn_id,))

    def recent_messages(self, chat_id: str, limit: int, after: int = 0) -> list[tuple[int, Message]]:
        """List the last messages of a chat with their numbers, oldest first; the cost does not grow with the chat."""
        rows = self._database.execute(
            f"SELECT {_MESSAGE} FROM message WHERE chat_id = ? AND id > ? ORDER BY id DESC LIMIT ?",  # noqa: S608 - a constant
            (chat_id, after, limit),
        ).fetchall()
        rows.reverse()
        # Nearly all have neither calls nor anything else besides their text.
        return [_read_message(row) if any(row[3:]) else (row[0], Message(_SPEAKERS[row[1]], row[2])) for row in rows]

    def newest_question(self, chat_id: str) -> list[tuple[int, Message]]:
        """The newest message of the person in a chat with its number, if there is one."""
        rows = self._database.execute(
            f"SELECT {_MESSAGE} FROM message WHERE chat_id = ? AND speaker = ? ORDER BY id DESC LIMIT 1",  # noqa: S608 - a constant
            (chat_id, Speaker.USER.value),
        )
        return [_read_message(row) for row in rows]

    def find_summary(self, chat_id: str) -> tuple[int, str]:
        """The summary of a chat's older part, and the number of the last message in it; (0, "") if there is none."""
        row = self._database.execute("SELECT up_to, text FROM summary WHERE chat_id = ?", (chat_id,)).fetchone()
        return (row[0], row[1]) if row else (0, "")

    def keep_summary(self, chat_id: str, up_to: int, text: str) -> None:
        """Replace it."""
        self._database.execute(
            "INSERT INTO summary (chat_id, up_to, text) VALUES (?, ?, ?) "
            "ON CONFLICT (chat_id) DO UPDATE SET up_to = ?2, text = ?3",
            (chat_id, up_to, text),
        )
        self._database.commit()

    def notes(self, scope: str) -> list[tuple[int, str]]:
        """The notes of a scope with their numbers, oldest first."""
        return list(self._database.execute("SELECT id, text FROM note WHERE scope = ? ORDER BY id", (scope,)))

    def add_note(self, scope: str, text: str) -> int:
        """Keep a note; its number, which is never given out again."""
        cursor = self._database.execute("INSERT INTO note (scope, text) VALUES (?, ?)", (scope, text))
        self._database.commit()
        return int(cursor.lastrowid or 0)

    def drop_note(self, scope: str, number: int) -> bool:
        """Remove a note; whether it was there."""
        cursor = self._database.execute("DELETE FROM note WHERE scope = ? AND id = ?", (scope, number))
        self._database.commit()
        return cursor.rowcount > 0

    def forget_chat(self, chat_id: str) -> None:
        """Erase what was said in a chat. Its turns stay known by id: asked for again, they must not run again."""
        self._database.execute("DELETE FROM message WHERE chat_id = ?", (chat_id,))
        self._database.execute("DELETE FROM summary WHERE chat_id = ?", (chat_id,))
        self._database.execute(
            "DELETE FROM event WHERE turn_id IN (SELECT id FROM turn WHERE chat_id = ?) "
            "AND seq < (SELECT max(seq) FROM event AS later WHERE later.turn_id = event.turn_id)",
            (chat_id,),
        )
        self._database.commit()


def _open(path: Path | None, *, is_checked: bool = False) -> sqlite3.Connection:
    # The timeout lets a process that is just leaving go first. A backup is made in another thread (SQLite serialises).
    database = sqlite3.connect(path or ":memory:", timeout=5, check_same_thread=False)
    try:
        return _prepared(database, is_checked=is_checked)
    except BaseException:
        database.close()
        raise


def _prepared(database: sqlite3.Connection, *, is_checked: bool) -> sqlite3.Connection:
    # EXCLUSIVE: a second process on the same folder would call our running turns interrupted. Also needs no -shm file.
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=NORMAL", _CHECKPOINT):
        database.execute(f"PRAGMA {pragma}")
    if not is_checked and database.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise _corrupt("database disk image is malformed")
    if database.execute("PRAGMA user_version").fetchone()[0] != SCHEMA_VERSION:
        database.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
    database.executescript(_SCHEMA)
    for table, columns in _NEW_COLUMNS.items():
        present = {row[1] for row in database.execute(f"PRAGMA table_info({table})")}
        for name in columns.keys() - present:
            database.execute(f"ALTER TABLE {table} ADD COLUMN {name} {columns[name]}")
    return database


def _columns(message: Message) -> tuple[str, ...]:
    return (
        message.speaker.value,
        message.text,
        _calls_line(message.calls),
        message.call_id,
        " ".join(message.images),
    )


def _corrupt(words: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(words)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


def _calls_line(calls: Sequence[Call]) -> str:
    return json.dumps([[call.id, call.name, call.arguments] for call in calls]) if calls else ""


def _read_message(row: Any) -> tuple[int, Message]:
    number, speaker, text, calls, call_id, aside, images = row
    told = Aside(*json.loads(aside)) if aside else None
    return number, Message(_SPEAKERS[speaker], text, _read_calls(calls), call_id, told, tuple(images.split()))


def _read_calls(line: str) -> tuple[Call, ...]:
    return tuple(Call(*parts) for parts in json.loads(line)) if line else ()
