"""Read the container's environment: who gets what of it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agent.sandbox.quota import Quota

_OWN = ("AGENT_", "LLM_")
_PASSED_ON = (
    *("PATH", "LANG", "TZ", "PYTHONPATH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"),
)
_LAUNCH = ("AGENT_FD", "AGENT_HOST", "AGENT_PORT")
"""Said by the supervisor, whatever the environment says."""
# Caddy fills these into its configuration before it parses that: nothing may end a word there.
_HOST = re.compile(r"(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z][a-z0-9-]{0,61}[a-z0-9]", re.IGNORECASE)
_URL = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*)?")
_EMAIL = re.compile(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DRAIN_SECONDS = 20.0
_NAMELESS = {"files": ":443", "plain": ":80"}
_NAMED = ("acme", "internal")


class BadConfiguration(Exception):
    """The container cannot run as it was described; the text names the variable or file and what to do."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The environments of the two servers, how the door is locked, and what a workspace may hold."""

    agent: Mapping[str, str]
    caddy: Mapping[str, str]
    tls_mode: str
    quota: Quota
    drain_seconds: float


def read_plan(environment: Mapping[str, str]) -> Plan:
    """Sort it out; `BadConfiguration`. The agent checks its own variables itself."""
    basics = {name: environment[name] for name in _PASSED_ON if name in environment}
    own = {name: value for name, value in environment.items() if name.startswith(_OWN) and name not in _LAUNCH}
    mode = environment.get("TLS_MODE") or "files"
    return Plan(
        agent=basics | own | {"TMPDIR": environment.get("AGENT_DATA", "/data")},
        caddy=basics | _caddy(mode, environment),
        tls_mode=mode,
        quota=Quota(
            bytes=_number(environment, "WORKSPACE_MB", 1024) << 20,
            files=_number(environment, "WORKSPACE_FILES", 50_000),
        ),
        drain_seconds=_seconds(environment.get("AGENT_DRAIN_SECONDS", "")),
    )


def _caddy(mode: str, environment: Mapping[str, str]) -> dict[str, str]:
    # It passes bytes on and keeps little: collecting sooner costs nothing to notice, and halves what it holds.
    home = {"HOME": "/caddy", "XDG_DATA_HOME": "/caddy", "XDG_CONFIG_HOME": "/caddy", "GOGC": "25"}
    address = {"TLS_MODE": mode, "SITE_ADDRESS": _site_address(mode, environment.get("SITE_HOST", ""))}
    return home | address | _issuer(environment)


def _issuer(environment: Mapping[str, str]) -> dict[str, str]:
    authority, email = environment.get("ACME_CA", ""), environment.get("ACME_EMAIL", "")
    if authority and not _URL.fullmatch(authority):
        raise BadConfiguration("ACME_CA: must be the URL of an ACME directory")
    if email and not _EMAIL.fullmatch(email):
        raise BadConfiguration("ACME_EMAIL: must be an e-mail address")
    # The whole line: Caddy refuses the word `email` with nothing behind it.
    lines = {"ACME_CA": authority, "ACME_CONTACT": email and f"email {email}"}
    return {name: value for name, value in lines.items() if value}


def _site_address(mode: str, host: str) -> str:
    if mode in _NAMELESS:
        return _NAMELESS[mode]
    if mode not in _NAMED:
        raise BadConfiguration(f"TLS_MODE: must be one of {', '.join([*_NAMELESS, *_NAMED])}")
    if not _HOST.fullmatch(host):
        raise BadConfiguration(f"SITE_HOST: TLS_MODE={mode} needs the host name that the certificate is for")
    return host


def _seconds(words: str) -> float:
    try:
        return float(words or _DRAIN_SECONDS)
    except ValueError:
        return _DRAIN_SECONDS  # the agent will refuse it, in its own words


def _number(environment: Mapping[str, str], name: str, default: int) -> int:
    words = environment.get(name) or str(default)
    if not re.fullmatch(r"[0-9]{1,9}", words):
        raise BadConfiguration(f"{name}: must be a whole number")
    return int(words)
