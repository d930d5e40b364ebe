"""What every provider of machines must do."""

import pytest

from bot.errors import MachineError, NotReached
from tests.contracts.conftest import MACHINE

OTHER = "m-fedcba9876543210"


async def test_a_rented_machine_is_listed_and_can_be_reached(provider):
    await provider.rent(MACHINE)

    assert await provider.listed() == [MACHINE]
    assert (await provider.reach(MACHINE)).machine_id == MACHINE


async def test_renting_twice_is_renting_once(provider):
    await provider.rent(MACHINE)
    await provider.rent(MACHINE)

    assert await provider.listed() == [MACHINE]


async def test_a_machine_given_back_is_no_longer_listed_or_reached(provider):
    await provider.rent(MACHINE)
    await provider.rent(OTHER)

    await provider.give_back(MACHINE)

    assert await provider.listed() == [OTHER]
    with pytest.raises(NotReached):
        await provider.reach(MACHINE)


async def test_giving_back_twice_or_what_was_never_rented_is_harmless(provider):
    await provider.rent(MACHINE)

    await provider.give_back(MACHINE)
    await provider.give_back(MACHINE)
    await provider.give_back(OTHER)

    assert await provider.listed() == []


@pytest.mark.parametrize("name", ["../../etc", "m-short", "", "m-0123456789abcdeg"])
async def test_an_id_that_is_none_of_ours_is_refused(provider, name):
    with pytest.raises(MachineError):
        await provider.rent(name)
    with pytest.raises(MachineError):
        await provider.give_back(name)


async def test_giving_back_ends_the_agent_on_it(provider, engine, spec):
    await provider.rent(MACHINE)
    url = await engine.run(await provider.reach(MACHINE), spec)

    await provider.give_back(MACHINE)
    await provider.rent(MACHINE)

    assert (await engine.inspect(await provider.reach(MACHINE))).state == "absent", url
