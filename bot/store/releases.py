"""Which release new agents get: what the last rollout brought, unless the operator has decided otherwise since."""

from sqlalchemy import or_
from sqlmodel import col, select
from sqlmodel.ext.asyncio.session import AsyncSession

from bot.store.database import Database
from bot.store.records import Rollout, RolloutState

SETTING = "setting"
"""In `Rollout.plan`: what AGENT_IMAGE was when the rollout was started."""


async def default_release(session: AsyncSession, setting: str) -> str:
    """What agents run that are made now.

    That is the release of the newest rollout that is done; of an undo already while it goes on, since what it takes
    back was found wanting. `setting` (AGENT_IMAGE) comes first if it is another than when that rollout began.
    """
    counts = or_(
        col(Rollout.state) == RolloutState.DONE,
        col(Rollout.undoes).is_not(None) & col(Rollout.is_open),
    )
    newest = (await session.exec(select(Rollout).where(counts).order_by(col(Rollout.id).desc()).limit(1))).first()
    return newest.release if newest and newest.plan.get(SETTING) == setting else setting


class Releases:
    """The same for those who hold no session."""

    def __init__(self, database: Database, setting: str) -> None:
        self._database = database
        self._setting = setting

    async def newest(self) -> str:
        """What agents run that are made now."""
        async with self._database.session() as session:
            return await default_release(session, self._setting)
