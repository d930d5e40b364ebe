import pytest

from scripts.image.registry import PROGRAM, is_installed, loopback_registry
from tests.needs import IN_CI


@pytest.fixture(scope="module")
def registry():
    """A registry on loopback, as `127.0.0.1:port`, empty at first."""
    if not is_installed() and not IN_CI:
        pytest.skip(f"no {PROGRAM} program")
    with loopback_registry() as place:
        yield place
