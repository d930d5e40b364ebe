"""What a marked test needs of the machine. Missing, it is skipped with a reason on a laptop, and fails in CI."""

import os
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
IN_CI = os.environ.get("CI") == "true"
ASKED = "E2E_QEMU"


def _browser() -> str:
    return "" if Path(CHROMIUM).exists() else f"no Chromium at {CHROMIUM}; set CHROMIUM"


@cache
def _docker() -> str:
    for command in (("docker", "info"), ("docker", "buildx", "version"), ("docker", "compose", "version")):
        try:
            asked = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            return f"no docker command: {error}"
        if asked.returncode:
            return f"{' '.join(command)}: {asked.stderr.strip().splitlines()[-1:]}"
    return ""


@cache
def _postgres() -> str:
    return (
        "" if any(Path("/usr/lib/postgresql").glob("*/bin/initdb")) else "no Postgres programs in /usr/lib/postgresql"
    )


@cache
def _machines() -> str:
    missing = [program for program in ("mmdebstrap", "docker-registry") if not shutil.which(program)]
    return _docker() or (f"no {' and no '.join(missing)} command" if missing else "")


def _asked_for() -> str:
    return "" if ASKED in os.environ else "takes 10 to 30 minutes: `make e2e-qemu` runs it"


NEEDS: dict[str, Callable[[], str]] = {
    "browser": _browser,
    "image": _docker,
    "acme": _docker,
    "postgres": _postgres,
    "vm": _machines,
    "qemu": _asked_for,
}
"""Marker → what is missing, empty if nothing is."""
OPT_IN = {"qemu"}
"""Never required, not in CI either."""
