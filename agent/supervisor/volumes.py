"""Look at the volumes with the eyes of their users before anything starts, so that what is wrong is one clear line."""

import os
from collections.abc import Callable
from pathlib import Path

from agent.sandbox.confine import TOOL, WORKSPACE, become_user
from agent.supervisor.plan import BadConfiguration, Plan

AGENT = 10001
CADDY = 10002
_CADDY_FOLDER = Path("/caddy")
CERTIFICATE = _CADDY_FOLDER / "cert.pem"
KEY = _CADDY_FOLDER / "key.pem"
_ENOUGH_BYTES = 1 << 20


def check_volumes(plan: Plan) -> None:
    """Try each; `BadConfiguration` for the first that cannot be used."""
    _as_user(AGENT, lambda: _can_write(Path(plan.agent.get("AGENT_DATA", "/data"))))
    _as_user(TOOL, lambda: _can_enter(WORKSPACE))
    if plan.tls_mode == "files":
        _as_user(CADDY, _certificate_fits)
    elif plan.tls_mode != "plain":
        _as_user(CADDY, lambda: _can_write(_CADDY_FOLDER))


def _as_user(user: int, check: Callable[[], None]) -> None:
    """Check in a child that has become that user; its complaint comes back through a pipe."""
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(user, check, said)
    os.close(said)
    with os.fdopen(heard, "rb") as answer:
        complaint = answer.read().decode()
    os.waitpid(child, 0)
    if complaint:
        raise BadConfiguration(complaint)


def _answer(user: int, check: Callable[[], None], said: int) -> None:
    try:
        become_user(user)
        check()
    except BadConfiguration as complaint:
        os.write(said, str(complaint).encode())
    except Exception as error:  # noqa: BLE001  told to the parent, which ends the container with it
        os.write(said, f"{type(error).__name__}: {error}".encode())
    finally:
        os._exit(0)


def _can_enter(folder: Path) -> None:
    try:
        os.scandir(folder).close()
        if not os.access(folder, os.W_OK):
            raise PermissionError
    except OSError as error:
        raise BadConfiguration(f"{folder}: {_advice(error)}") from error


def _can_write(folder: Path) -> None:
    try:
        nameless = os.open(folder, os.O_TMPFILE | os.O_RDWR)
        os.posix_fallocate(nameless, 0, _ENOUGH_BYTES)
        os.close(nameless)
    except OSError as error:
        raise BadConfiguration(f"{folder}: {_advice(error)}") from error


def _advice(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"user {os.getuid()} cannot use this volume; it must own it (chown {os.getuid()})"
    if isinstance(error, FileNotFoundError):
        return "is missing; mount a volume there"
    return f"cannot be used: {error.strerror}; make room, or mount another volume"


def _certificate_fits() -> None:
    import ssl  # noqa: PLC0415  5 MB that only this child needs
    import subprocess  # noqa: PLC0415  likewise

    for file in (CERTIFICATE, KEY):
        try:
            file.read_bytes()
        except OSError as error:
            raise BadConfiguration(
                f"{file}: cannot be read by user {CADDY} ({error.strerror}); "
                "TLS_MODE=files needs it there before the start"
            ) from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(CERTIFICATE, KEY)
    except (ssl.SSLError, ValueError) as error:
        raise BadConfiguration(f"{CERTIFICATE}, {KEY}: are no certificate with its key ({error})") from error
    check = ("openssl", "x509", "-checkend", "0", "-noout", "-in", CERTIFICATE)
    expired = subprocess.run(check, capture_output=True, check=False)  # noqa: S603  our own words
    if expired.returncode:
        raise BadConfiguration(f"{CERTIFICATE}: has expired; issue a new one")
