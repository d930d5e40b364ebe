"""`make demo PROVIDER=aleph-sim`: from a button to an agent on a machine rented from the network's double, and back."""

import asyncio
import re

import pytest

from scripts.demo_aleph import AlephSite
from tests.e2e.demo import drive

pytestmark = [pytest.mark.vm, pytest.mark.usefixtures("agent_image"), pytest.mark.timeout(420)]
STEPS = ["Booted", "Prepared", "Agent installed"]
"""Those that take long enough to be seen for sure."""
TIMED = ["renting", "reaching", "prepared", "preparing", "pulled", "starting", "proving"]


async def test_it_is_driven_once_and_leaves_nothing(tmp_path):
    done = await drive(tmp_path, "--provider", "aleph-sim", seconds=400)

    assert done.code == 0, done.said
    (card,) = [line for line in done.said.splitlines() if line.startswith("The card showed:")]
    assert [step for step in card.removeprefix("The card showed: ").split(" → ") if step in STEPS] == STEPS
    assert "“What can I cook with eggs?”" in done.said
    assert "deleted, it left no machine behind" in done.said
    (seconds,) = [line for line in done.said.splitlines() if line.startswith("Seconds:")]
    assert re.findall(r"(\w+ing|pulled|prepared) \d", seconds) == TIMED
    print(seconds)  # noqa: T201  for `pytest -rP`
    assert await AlephSite(tmp_path).left() == []
    log = await asyncio.to_thread((tmp_path / "bot.log").read_text)
    assert "Traceback" not in log
