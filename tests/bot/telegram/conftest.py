"""What every test of the Telegram front end needs."""

import pytest


@pytest.fixture(autouse=True)
def _retry_after_is_a_timedelta(monkeypatch: pytest.MonkeyPatch) -> None:
    """PTB 22.8 warns at every 429, and tests make errors of warnings, until this variable opts in to timedeltas."""
    monkeypatch.setenv("PTB_TIMEDELTA", "true")
