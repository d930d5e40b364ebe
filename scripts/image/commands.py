"""Run other programs; refuse in one line."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class Refused(Exception):
    """It cannot be done; the text is one line that says why and what to do."""


def run(*command: str, cwd: Path | None = None) -> None:
    """Run it where the developer sees what it says (on stderr: stdout is for results); `Refused` if it fails."""
    code = subprocess.run(command, cwd=cwd, stdout=sys.stderr, check=False).returncode
    if code:
        raise Refused(f"`{' '.join(command[:3])} …` ended with code {code}; what it said is above")


def output(*command: str, cwd: Path | None = None) -> str:
    """What it prints, without the last line break; `Refused` with its last words if it fails."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip() or "it said nothing").splitlines()[-1]
        raise Refused(f"`{' '.join(command[:3])} …` ended with code {done.returncode}: {last}")
    return done.stdout.removesuffix("\n")


def need_docker() -> None:
    """`Refused` unless there are a Docker daemon that answers and BuildKit."""
    if problem := docker_problem():
        raise Refused(problem)


def docker_problem() -> str | None:
    """Why nothing can be built here; None if it can."""
    if problem := daemon_problem():
        return problem
    if not _works("docker", "buildx", "version"):
        return "needs BuildKit: install buildx (Debian: docker-buildx), Docker's builder"
    return None


def daemon_problem() -> str | None:
    """Why no container can be run here; None if one can."""
    if not shutil.which("docker"):
        return "needs Docker: install it (Debian: docker.io and docker-buildx)"
    if not _works("docker", "version"):
        return "Docker does not answer: start its daemon, or see with `docker version` why this user may not talk to it"
    return None


def _works(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def in_one_line(work: Callable[[], None]) -> int:
    """The exit code of a command: 1 and one line on stderr when it is refused."""
    try:
        work()
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 1
    return 0
