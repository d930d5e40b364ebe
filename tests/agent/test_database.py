"""A database that has no room: what was written waits, in its order, and is there."""

import sqlite3

import pytest

from agent.database import Database, is_full

ROWS = "SELECT text FROM said ORDER BY id"


@pytest.fixture
def database(tmp_path):
    connection = sqlite3.connect(tmp_path / "agent.db")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("CREATE TABLE said (id INTEGER PRIMARY KEY AUTOINCREMENT, text TEXT)")
    yield Database(connection)
    connection.close()


def say(database, text):
    database.execute("INSERT INTO said (text) VALUES (?)", (text,))


def texts(database):
    return [text for (text,) in database.execute(ROWS)]


def committed(tmp_path):
    with sqlite3.connect(tmp_path / "agent.db") as other:
        found = [text for (text,) in other.execute(ROWS)]
    other.close()
    return found


def fill(database, *, pages=0):
    """No more pages than there are now, and so many."""
    database.connection.execute(f"PRAGMA max_page_count={pages or 1}")  # never less than are in use


def room(database):
    database.connection.execute("PRAGMA max_page_count=1000000")


BIG = "x" * 20_000


def test_what_is_said_patiently_waits_and_is_read_and_then_safe(database, tmp_path):
    say(database, "before")
    fill(database)
    with database.patient():
        say(database, BIG)
        say(database, "after")
        database.commit()
    assert "before" in texts(database)
    room(database)
    database.commit()
    assert texts(database) == committed(tmp_path) == ["before", BIG, "after"]


def test_who_wrote_before_does_not_pay_for_who_needs_room(database, tmp_path):
    say(database, "another chat's")
    fill(database)
    with pytest.raises(sqlite3.OperationalError) as refused:
        say(database, BIG)
    assert is_full(refused.value)
    assert texts(database) == ["another chat's"]
    database.commit()
    assert committed(tmp_path) == ["another chat's"]


def test_what_is_refused_at_once_never_appears(database, tmp_path):
    say(database, "waits")
    fill(database)
    with pytest.raises(sqlite3.OperationalError):
        database.at_once(lambda: (say(database, "a turn"), say(database, BIG)))
    room(database)
    database.commit()
    assert committed(tmp_path) == ["waits"]


def test_other_faults_are_not_waited_for(database):
    with database.patient(), pytest.raises(sqlite3.OperationalError, match="no such table"):
        database.execute("INSERT INTO elsewhere VALUES (1)")
