"""The one connection to the agent's database, and what a full disk does to it.

SQLite takes back what was not committed when there is no room for it. So what was written since the last commit is
known here: it is done again, for whoever reads it, and committed as soon as there is room. Lost is only what waits when
the process dies before that.
"""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

Values = Sequence[object]


class Database:
    """Statements, in the transaction that the first of them opens."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.connection = connection
        self._written: list[tuple[str, Values]] = []
        self._undone = False
        self._is_patient = False

    def execute(self, statement: str, values: Values = ()) -> sqlite3.Cursor:
        """Read or write. What is written is safe at the next commit."""
        try:
            cursor = self.connection.execute(statement, values)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise
            self._do_again()  # who wrote before must not pay for it
            if not self._is_patient:
                raise
            self._written.append((statement, values))
            return self.connection.cursor()
        if self.connection.in_transaction and not statement.startswith("SELECT"):
            self._written.append((statement, values))
        return cursor

    def commit(self) -> None:
        """Make everything written so far safe. On a full disk `sqlite3.OperationalError`, and it waits for the next."""
        stopped = self._do_again() if self._undone else None
        try:
            if stopped:
                raise stopped
            self.connection.commit()
        except sqlite3.OperationalError as error:
            self._do_again()
            if self._is_patient and is_full(error):
                return
            raise
        self._written.clear()
        self._undone = False

    @contextmanager
    def patient(self) -> Iterator[None]:
        """What is written in here has happened: on a full disk it waits, and nobody hears of it."""
        before, self._is_patient = self._is_patient, True
        try:
            yield
        finally:
            self._is_patient = before

    def at_once(self, write: Callable[[], object]) -> None:
        """Write and commit; what cannot be committed now is not written at all."""
        mark = len(self._written)
        try:
            write()
            self.commit()
        except sqlite3.OperationalError:
            del self._written[mark:]
            self._do_again()
            raise

    def _do_again(self) -> sqlite3.OperationalError | None:
        """As far as there is room, for whoever reads it; what stopped it, if something did."""
        self._undone = True
        done, stopped = self._repeat(len(self._written))
        if stopped:  # which took back all of it
            self._repeat(done)
        return stopped

    def _repeat(self, count: int) -> tuple[int, sqlite3.OperationalError | None]:
        self.connection.rollback()
        for done, (statement, values) in enumerate(self._written[:count]):
            try:
                self.connection.execute(statement, values)
            except sqlite3.OperationalError as error:
                if not is_full(error):
                    raise
                return done, error
        return count, None


def is_full(error: sqlite3.OperationalError) -> bool:
    """Whether there was no room on the disk."""
    return error.sqlite_errorcode == sqlite3.SQLITE_FULL
