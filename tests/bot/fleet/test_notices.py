"""What people are to be told is kept until somebody has told it, and is told once."""

import asyncio

import pytest

from bot.fleet.notices import OPERATOR, Notices


@pytest.fixture
def notices(database, clock) -> Notices:
    return Notices(database, clock=clock)


async def test_the_same_notice_is_posted_once_and_is_news(notices):
    await notices.post("healed 7 3", 42, "notice-healed", name="Ada")
    await notices.post("healed 7 3", 42, "notice-healed", name="Somebody else")

    [notice] = await notices.waiting()
    assert (notice.id, notice.user_id, notice.text, notice.facts) == (
        "healed 7 3",
        42,
        "notice-healed",
        {"name": "Ada"},
    )
    assert notices.news.is_set()


async def test_two_who_post_at_once_post_one(notices):
    await asyncio.gather(*(notices.post("pool", OPERATOR, "notice-operator-pool", why="full") for _ in range(8)))

    assert len(await notices.waiting()) == 1


async def test_what_was_told_is_not_told_again_also_when_it_is_posted_again(notices):
    await notices.post("healed 7 3", 42, "notice-healed", name="Ada")
    await notices.told("healed 7 3")
    await notices.post("healed 7 3", 42, "notice-healed", name="Ada")

    assert await notices.waiting() == []


async def test_what_is_for_the_operator_becomes_one_for_each(notices):
    await notices.post("runway 72", OPERATOR, "notice-operator-runway", hours=70, credits=812.5)
    [notice] = await notices.waiting()

    await notices.share(notice, (5, 6, 5))
    await notices.share(notice, (5, 6, 5))

    each = await notices.waiting()
    assert [(one.id, one.user_id, one.facts) for one in each] == [
        ("runway 72 5", 5, {"hours": 70, "credits": 812.5}),
        ("runway 72 6", 6, {"hours": 70, "credits": 812.5}),
    ]


async def test_without_an_operator_nobody_is_told_for_ever(notices):
    await notices.post("runway 72", OPERATOR, "notice-operator-runway", hours=70, credits=812)
    [notice] = await notices.waiting()

    await notices.share(notice, ())

    assert await notices.waiting() == []
