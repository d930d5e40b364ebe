"""Ask somebody by HTTP, and say in plain words why there is no answer."""

import re
import socket
import ssl
from typing import Any

import httpx

from bot.doctor.findings import Wrong

SECONDS = 6.0
END_OF_HOST = re.compile(r"[/?#]")
REASONS: tuple[tuple[type[BaseException], str], ...] = (
    (socket.gaierror, "its name is not known here"),
    (ssl.SSLCertVerificationError, "its certificate is not trusted"),
    (ssl.SSLError, "it does not speak TLS"),
    (ConnectionRefusedError, "connection refused"),
    (PermissionError, "permission denied"),
    (FileNotFoundError, "no such file"),
    (TimeoutError, f"no answer in {SECONDS:.0f} s"),
    (httpx.TimeoutException, f"no answer in {SECONDS:.0f} s"),
)


async def ask(
    http: httpx.AsyncClient, url: str, *, setting: str, bearer: str = "", query: dict[str, str] | None = None
) -> httpx.Response:
    """GET; `Wrong` if nothing comes back, which names the host and the setting that names it."""
    headers = {"Authorization": f"Bearer {bearer}"} if bearer else {}
    try:
        return await http.get(url, headers=headers, params=query, timeout=SECONDS)
    except (httpx.InvalidURL, httpx.UnsupportedProtocol):
        raise Wrong(f"{setting} is not a URL: write https://…") from None
    except (httpx.HTTPError, OSError) as error:
        advice = f"look whether this host reaches it, and correct {setting} if it is wrong"
        raise Wrong(f"{host(url)} does not answer ({reason(error)}): {advice}") from None


def host(url: str) -> str:
    """Host and port of an address; neither user and password nor the path, which may be secrets."""
    return END_OF_HOST.split(url.partition("://")[2])[0].rpartition("@")[2] or "it"


def reason(error: BaseException) -> str:
    """Why there was no connection, by the error at the bottom."""
    chain = [error]
    while (deeper := chain[-1].__cause__ or chain[-1].__context__) and deeper not in chain:
        chain.append(deeper)
    found = (words for cause in reversed(chain) for kind, words in REASONS if isinstance(cause, kind))
    return next(found, "connection broken")


def parsed(answer: httpx.Response) -> dict[str, Any]:
    """Its JSON object; empty if it is none."""
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
