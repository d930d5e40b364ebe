"""Nothing is rented beyond a cap, and who is beyond one falls asleep and hears of it once."""

import copy

import pytest

from bot.errors import SpendCapReached
from bot.fleet.caps import Cap, Caps, CapWatch, SpendCaps
from bot.store.models import MachineState, Phase, Wanted
from tests.bot.fleet.costs import OLGA, VIKTOR, Rows, at


class Told:
    def __init__(self):
        self.notices = {}

    async def __call__(self, notice_id, user_id, text, /, **facts):
        self.notices.setdefault(notice_id, (user_id, text, facts))


@pytest.fixture
async def rows(database, clock):
    """Ada 1 and 2 are Olga's, 3 is Viktor's: 300, 200 and 100 credits this month, 50 of the pool."""
    clock.now = at("2026-11-10T12:00")
    made = Rows(database)
    for agent_id, owner, hours in ((1, OLGA, 3), (2, OLGA, 2), (3, VIKTOR, 1)):
        await made.agent(agent_id, owner)
        await made.machine(agent_id, f"2026-11-10T{12 - hours:02}:00")
        await made.machine(agent_id, "2026-10-01T00:00", "2026-10-02T00:00")
    await made.machine(0, "2026-11-10T11:30", state=MachineState.READY)
    return made


@pytest.fixture
def capped(database, clock):
    return lambda **limits: SpendCaps(database, Caps(**limits), clock=clock)


@pytest.mark.parametrize(
    ("limits", "rooms"),
    [
        ({}, {1: None, 2: None, 3: None, 0: None, 99: None}),
        ({"agent": 300}, {1: Cap.AGENT, 2: None, 3: None, 0: None, 99: None}),
        ({"agent": 301}, {1: None}),
        ({"owner": 500}, {1: Cap.OWNER, 2: Cap.OWNER, 3: None, 0: None}),
        ({"owner": 501}, {1: None, 2: None}),
        ({"total": 650}, {1: Cap.TOTAL, 3: Cap.TOTAL, 0: Cap.TOTAL, 99: Cap.TOTAL}),
        ({"total": 651}, {1: None, 0: None}),
        ({"agent": 300, "owner": 500, "total": 650}, {1: Cap.AGENT, 2: Cap.OWNER, 3: Cap.TOTAL, 0: Cap.TOTAL}),
    ],
)
async def test_there_is_room_until_a_cap_is_reached(rows, capped, limits, rooms):
    caps = capped(**limits)

    assert {agent_id: await caps.room(agent_id) for agent_id in rooms} == rooms
    assert await caps.may_rent() is (rooms.get(0) is None)


async def test_a_cap_that_is_reached_is_an_error_that_says_which(rows, capped):
    caps = capped(agent=300)

    await caps.check(2)
    with pytest.raises(SpendCapReached) as caught:
        await caps.check(1)

    assert (caught.value.code, caught.value.cap) == ("spend-cap", "agent")
    again = copy.copy(caught.value)
    assert (str(again), again.cap) == (str(caught.value), "agent")


async def test_a_new_month_has_room_again(rows, capped, clock):
    caps = capped(agent=300, owner=500, total=650)

    clock.now = at("2026-12-01T00:30")

    assert [await caps.room(agent_id) for agent_id in (0, 1, 2, 3)] == [None] * 4


@pytest.fixture
def watch(capped):
    def make(**limits):
        asleep, told = [], Told()

        async def sleep(agent_id):
            asleep.append(agent_id)

        return CapWatch(capped(**limits), sleep, told), asleep, told

    return make


async def test_who_has_reached_a_cap_falls_asleep_and_its_owner_hears_of_it_once(rows, watch):
    watching, asleep, told = watch(agent=300, owner=500)

    assert await watching.look() == [1, 2]
    await watching.look()

    assert asleep == [1, 2, 1, 2], "asked again as long as it is awake"
    assert told.notices == {
        "cap-agent-300-2026-11-1": (OLGA, "notice-cap", {"agent_id": 1, "cap": "agent"}),
        "cap-owner-500-2026-11-2": (OLGA, "notice-cap", {"agent_id": 2, "cap": "owner"}),
    }


async def test_of_the_cap_of_all_the_operator_hears_too(rows, watch):
    watching, asleep, told = watch(total=600)

    await watching.look()

    assert sorted(asleep) == [1, 2, 3]
    assert told.notices["cap-total-600-2026-11-operator"] == (0, "notice-operator-cap", {"cap": "total"})
    assert len(told.notices) == 4


async def test_a_raised_cap_that_is_reached_again_is_told_again(rows, watch, database):
    for limit in (200, 300):
        watching, _, told = watch(agent=limit)
        await watching.look()
        assert f"cap-agent-{limit}-2026-11-1" in told.notices


async def test_only_those_that_are_awake_and_as_wanted_are_put_to_sleep(rows, watch):
    await rows.agent(4, phase=Phase.ASLEEP, wanted=Wanted.ASLEEP)
    await rows.agent(5, phase=Phase.STARTING)
    await rows.agent(6, phase=Phase.RUNNING, generation=2)
    await rows.agent(7, phase=Phase.DELETING, wanted=Wanted.DELETED)
    for agent_id in (4, 5, 6, 7):
        await rows.machine(agent_id, "2026-11-10T00:00")
    watching, asleep, _ = watch(agent=1_000)

    await watching.look()

    assert asleep == []


async def test_without_caps_nothing_is_looked_at(rows, watch):
    watching, asleep, told = watch()

    assert await watching.look() == []
    assert (asleep, told.notices) == ([], {})
