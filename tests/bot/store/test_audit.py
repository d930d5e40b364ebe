"""What was done stays written down, in order."""

import pytest

from bot.store.audit import Auditor


async def test_what_was_done_is_read_newest_first(database, clock):
    auditor = Auditor(database, clock=clock)
    await auditor.note("olga", "rollout start", release="r2", canaries=2)
    clock.now += 60
    await auditor.note("7000000001", "delete", 7)

    newest, older = await auditor.newest()

    assert (newest.who, newest.what, newest.agent_id, newest.at - older.at) == ("7000000001", "delete", 7, 60)
    assert (older.agent_id, older.details) == (None, {"release": "r2", "canaries": 2})


async def test_what_happened_to_one_agent_is_found(database):
    auditor = Auditor(database)
    for agent_id in (1, 2, 1):
        await auditor.note("olga", "sleep", agent_id)

    assert [row.agent_id for row in await auditor.newest(agent_id=1)] == [1, 1]
    assert len(await auditor.newest(1, agent_id=1)) == 1


async def test_a_row_is_gone_with_the_transaction_that_failed(database):
    auditor = Auditor(database)

    async def fail():
        async with database.session() as session:
            session.add(auditor.entry("olga", "rollout start"))
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        await fail()

    assert await auditor.newest() == []
