"""Run the container: exit code 0 after SIGTERM, 78 if it is configured wrongly, else 1."""

import os
import resource
import select
import signal
import sys

from agent.supervisor.children import Child, start_agent, start_caddy, start_launcher
from agent.supervisor.plan import BadConfiguration, Plan, read_plan
from agent.supervisor.volumes import check_volumes

_EX_CONFIG = 78
_CLOSING_SECONDS = 10
_CADDY_SECONDS = 3
_STOP = (signal.SIGTERM, signal.SIGINT)


def main() -> int:
    """Start everything; return when everything has ended or something has died."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    told = _signals()
    try:
        plan = read_plan(os.environ)
        check_volumes(plan)
    except BadConfiguration as error:
        _say(f"agent: {error}")
        return _EX_CONFIG
    launcher = start_launcher(plan.quota)
    agent = start_agent(plan.agent)
    caddy = start_caddy(plan.caddy)
    dead = _wait(told, (agent, caddy, launcher))
    return _stop(plan, agent, caddy) if dead is None else _ended(dead)


def _signals() -> int:
    """A descriptor that becomes readable when we are told to stop."""
    told, tell = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(tell)
    for number in _STOP:
        signal.signal(number, lambda *_: None)
    return told


def _wait(told: int, children: tuple[Child, ...]) -> Child | None:
    """The first child to end, or None when we were told to stop."""
    poll = select.poll()
    poll.register(told, select.POLLIN)
    for child in children:
        poll.register(child, select.POLLIN)
    happened = {number for number, _ in poll.poll()}
    return next((child for child in children if child.fileno() in happened and told not in happened), None)


def _stop(plan: Plan, agent: Child, caddy: Child) -> int:
    """The agent first: it lets running answers end, and Caddy carries them."""
    agent.signal(signal.SIGTERM)
    agent.wait(plan.drain_seconds + _CLOSING_SECONDS)
    caddy.signal(signal.SIGTERM)
    caddy.wait(_CADDY_SECONDS)
    return 0 if agent.code == 0 else 1


def _ended(child: Child) -> int:
    """One is dead: end the container, which takes the others along, and let it be started anew."""
    child.wait(0)
    if child.code == _EX_CONFIG:
        return _EX_CONFIG  # it has said why
    _say(f"agent: {child.name} ended with {child.code}; ending the container")
    return 1


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201  there is no other log yet


if __name__ == "__main__":
    sys.exit(main())
