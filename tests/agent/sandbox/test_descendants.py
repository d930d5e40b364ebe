"""Everything that a call started ends, also what one look at /proc misses."""

import os
import subprocess
import sys

import pytest

KEEPER = """
import subprocess, sys
from agent.sandbox import descendants, kernel

kernel.adopt_orphans()
look, misses = descendants._parents, iter(range(int(sys.argv[1])))
descendants._parents = lambda: look() if next(misses, None) is None else {}
daemon = "import os, time; os.fork() and os._exit(0); os.setsid(); print(os.getpid(), flush=True); time.sleep(600)"
started = subprocess.Popen([sys.executable, "-c", daemon], stdout=subprocess.PIPE)
print(started.stdout.readline().decode(), flush=True)
descendants.end_all()
"""


@pytest.mark.parametrize("missed", [0, 1, 3])
def test_a_daemon_born_while_we_looked_is_ended(missed):
    keeper = [sys.executable, "-c", KEEPER, str(missed)]
    ran = subprocess.run(keeper, capture_output=True, text=True, timeout=60, check=True)
    with pytest.raises(ProcessLookupError):
        os.kill(int(ran.stdout), 0)
