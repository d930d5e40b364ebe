"""Errors are facts: the durable engine keeps them beside its steps, and makes them again after a crash."""

import pickle

import pytest

from bot.errors import AgentRefused, MachineError, NoCapacity, NoCredit, NotPrepared, NotStarted, Refused


@pytest.mark.parametrize(
    "error",
    [
        MachineError("away"),
        NoCapacity("full"),
        NoCredit(342_000, 7),
        NotPrepared("no Docker", log="E: lock"),
        NotStarted("it ended", log="bye"),
        Refused("agent-limit", limit=3),
        AgentRefused("not_standby", "it works", status=409),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_is_the_same_after_a_crash(error):
    again = pickle.loads(pickle.dumps(error))  # noqa: S301  our own bytes

    assert (type(again), str(again), vars(again)) == (type(error), str(error), vars(error))
