"""Bring an existing database to this bot's tables by adding to it: nothing is ever dropped or changed.

Every column that must not be NULL has its default in the database too. Rows that are there get it, and so do those of
an older bot on a newer database, which knows nothing of the column.
"""

import json
import logging
from collections.abc import Iterable
from typing import Any

from sqlalchemy import (
    JSON,
    Column,
    Connection,
    DefaultClause,
    Dialect,
    Index,
    Inspector,
    MetaData,
    String,
    Table,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.schema import CreateColumn
from sqlalchemy.sql.dml import Update
from sqlalchemy.types import TypeEngine
from sqlmodel import SQLModel, col

from bot.errors import BadSettings
from bot.log import line
from bot.store.models import Agent, Machine, MachineState

log = logging.getLogger(__name__)


def migrate(connection: Connection) -> list[str]:
    """Make tables, columns and indices that are missing; their names, `table.column` for columns.

    The caller holds a transaction in which nobody else migrates. `BadSettings` if a column cannot be added.
    """
    wanted, there = with_defaults(SQLModel.metadata, connection.dialect), inspect(connection)
    old = set(there.get_table_names())
    wanted.create_all(connection)
    columns = [column for table in _tables(wanted, old) for column in _missing_columns(table, there)]
    for column in columns:
        _add(connection, column)
    # After the columns that they are on.
    indices = [index for table in _tables(wanted, old) for index in _missing_indices(table, there)]
    for index in indices:
        index.create(connection)
    added = [str(column) for column in columns]
    for statement in _backfills(set(added)):
        connection.execute(statement)
    made = [table.name for table in wanted.sorted_tables if table.name not in old]
    if old and (news := [*made, *added, *(str(index.name) for index in indices)]):
        log.info(line("database brought up to date", added=",".join(news)))
    return [*made, *added, *(str(index.name) for index in indices)]


def with_defaults(metadata: MetaData, dialect: Dialect) -> MetaData:
    """The same tables, in which each column that must not be NULL has its default in the database, if it has one."""
    copy = MetaData()
    models = {mapper.class_.__tablename__: mapper.class_ for mapper in SQLModel._sa_registry.mappers}  # noqa: SLF001
    for table in metadata.sorted_tables:
        for column in table.to_metadata(copy).columns:
            value = _default(models.get(table.name), column)
            if value is not None and not column.nullable and not column.primary_key:
                _set_default(column, value, dialect)
    return copy


def _default(model: Any, column: Column[Any]) -> Any:
    """What a new row of this table has there; None: each row must say. A time is that of the migration."""
    field = model.model_fields.get(column.name) if model else None
    if field is None or field.is_required():
        return None
    value = field.get_default(call_default_factory=True)
    # A word that a function makes is an id: no two rows may have the same.
    return None if field.default_factory and isinstance(value, str) else value


def _set_default(column: Column[Any], value: Any, dialect: Dialect) -> None:
    kind: TypeEngine[Any] = column.type
    if isinstance(kind, JSON):
        # SQLAlchemy writes no JSON itself.
        kind, value = String(), json.dumps(value)
    write = kind.dialect_impl(dialect).literal_processor(dialect)
    if write is None:
        raise TypeError(f"no default of {column} can be written for {dialect.name}")
    DefaultClause(text(write(value).replace(":", r"\:")))._set_parent(column)  # noqa: SLF001  there is no public way


def _tables(metadata: MetaData, names: set[str]) -> Iterable[Table]:
    return (table for table in metadata.sorted_tables if table.name in names)


def _missing_columns(table: Table, there: Inspector) -> list[Column[Any]]:
    known = {column["name"] for column in there.get_columns(table.name)}
    return [column for column in table.columns if column.name not in known]


def _missing_indices(table: Table, there: Inspector) -> list[Index]:
    known = {index["name"] for index in there.get_indexes(table.name)}
    return sorted((index for index in table.indexes if index.name not in known), key=lambda index: str(index.name))


def _add(connection: Connection, column: Column[Any]) -> None:
    if column.primary_key or not (column.nullable or column.server_default):
        raise BadSettings(
            f"DATABASE_URL: the database is too old: {column} cannot be added to it. Start a release in between first."
        )
    table = connection.dialect.identifier_preparer.format_table(column.table)
    made = CreateColumn(column).compile(dialect=connection.dialect)
    connection.execute(text(f"ALTER TABLE {table} ADD COLUMN {made}".replace(":", r"\:")))


def _backfills(added: set[str]) -> Iterable[Update]:
    """What new columns of old rows hold, where it can be known."""
    if "agent.machine_id" in added:
        newest = select(col(Machine.id)).where(
            col(Machine.agent_id) == col(Agent.id), col(Machine.state) == MachineState.ACTIVE
        )
        newest = newest.order_by(col(Machine.created_at).desc()).limit(1)
        yield update(Agent).values(machine_id=newest.scalar_subquery())
    if "machine.release" in added:
        # Until then an agent ran one release all its life. On the others nothing had been started yet.
        is_begun = col(Machine.state).not_in([MachineState.INTENT, MachineState.RENTED])
        runs = select(col(Agent.release)).where(col(Agent.id) == col(Machine.agent_id)).scalar_subquery()
        is_known = col(Machine.agent_id).in_(select(col(Agent.id)))
        yield update(Machine).where(is_begun, is_known).values(release=runs)
