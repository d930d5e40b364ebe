"""The durable engine on a server that does not let it work."""

import pytest

from bot.errors import BadSettings
from bot.fleet.durable import Durable

pytestmark = pytest.mark.postgres


async def do_nothing(_attempt):
    pass


async def test_a_user_who_may_not_make_a_schema_is_told_what_to_do(postgres, caplog):
    with postgres.database() as name, postgres.guest(name) as url:
        durable = Durable(url)

        with pytest.raises(BadSettings) as caught:
            await durable.start(do_nothing)
        await durable.stop()

    assert str(caught.value) == (
        f"DATABASE_URL: permission denied for database {name}. "
        "Make its user the database's owner: ALTER DATABASE … OWNER TO …."
    )
    assert caplog.records == []


async def test_a_schema_made_for_it_beforehand_is_enough(postgres):
    with postgres.database() as name, postgres.guest(name) as url:
        postgres.execute(f"CREATE SCHEMA dbos AUTHORIZATION {url.split('//')[1].partition(':')[0]}", database=name)
        durable = Durable(url)

        await durable.start(do_nothing)
        await durable.stop()
