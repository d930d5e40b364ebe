import sys
from types import SimpleNamespace

import pytest

from scripts import bench


@pytest.mark.parametrize(("named", "ran"), [([], list(bench.PARTS)), (["loops", "agent"], ["loops", "agent"])])
def test_it_measures_what_is_named_or_everything_and_fails_with_any(named, ran, monkeypatch):
    started = []

    def run(command, *, check):
        assert not check
        started.append(command[2:])
        return SimpleNamespace(returncode=1 if "loops" in command[2] else 0)

    monkeypatch.setattr("scripts.bench.subprocess.run", run)
    monkeypatch.setattr(sys, "argv", ["bench", "--check", *named])

    assert bench.main() == 1
    assert started == [[f"scripts.bench_{part}", "--check"] for part in ran]
