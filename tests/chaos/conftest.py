import random

import pytest


@pytest.fixture
def dice():
    return random.Random(11)  # noqa: S311  repeatable, not secret
