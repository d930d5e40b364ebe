"""How tests are spread over pytest-xdist's processes.

Its own `--dist loadgroup` spreads as if there were no groups: pytest 9.2 does not read what it writes into node ids.
"""

from xdist.scheduler import LoadScopeScheduling

EXPENSIVE = ("tests/image/", "tests/vm/", "tests/e2e/test_commands.py")
"""Modules whose tests share machines, containers or a bot: made in each process they cost more than they save."""
LONG = (*EXPENSIVE, "tests/chaos/")
"""Begun first: at the end, one process would work and the others wait."""


def module_of(node_id: str) -> str:
    """The path of its module."""
    return node_id.partition("::")[0]


class Spread(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """Expensive modules whole, those with the most tests first; then every other test by itself."""

    def _split_scope(self, nodeid: str) -> str:
        module = module_of(nodeid)
        return module if module.startswith(EXPENSIVE) else nodeid
