"""The control side of LibertAI's double: what tests script and read, and the client with which they do it."""

import ssl
from enum import StrEnum
from types import TracebackType
from typing import Any, Self

import httpx
from pydantic import BaseModel, ConfigDict, TypeAdapter

WAIT_SECONDS = 30.0
# Loading the certificates of a context that is never used costs 30 ms for each client.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class KeyState(StrEnum):
    """What LibertAI thinks of an API key. All but the first two are the reasons of its 403."""

    OK = "ok"
    UNKNOWN = "unknown"
    DISABLED = "disabled"
    EXPIRED = "expired"
    MONTHLY_LIMIT = "key_monthly_limit"
    NO_CREDITS = "no_credits"
    EXTRA_CREDIT_CAP = "extra_credit_cap"


class Ending(StrEnum):
    """How a scripted stream ends."""

    STOP = "stop"
    LENGTH = "length"
    SILENT = "silent"
    """The body just ends, as LibertAI's gateway does when a server behind it fails."""
    RESET = "reset"
    """The connection breaks."""


class Wire(BaseModel):
    """Base of the control API's messages."""

    model_config = ConfigDict(extra="forbid")


class Key(Wire):
    """A key and its state."""

    key: str
    state: KeyState = KeyState.OK


class Pace(Wire):
    """How fast the model writes; without a rate all at once."""

    first_token_seconds: float = 0
    tokens_per_second: float | None = None


class ToolCall(Wire):
    """A tool that the model wants to be called."""

    name: str
    arguments: dict[str, Any] | str = {}
    """Text is sent as it is: perhaps not JSON."""
    id: str | None = None


class Script(Wire):
    """One answer to one completion. Without `text` and `calls` the double makes one up from the question."""

    text: str | None = None
    calls: list[ToolCall] = []
    """After the text; their arguments are streamed in pieces, as vLLM does."""
    lines: list[str] | None = None
    """The lines of the stream itself, sent as they are, and nothing else: for malformed streams."""
    reasoning: str = ""
    ending: Ending = Ending.STOP
    tokens: int | None = None
    """How many tokens are said before the ending; all if not given."""
    hold_after: int | None = None
    """After this many tokens nothing is said until `release`."""
    pace: Pace | None = None
    status: int = 200
    body: str | None = None
    """Sent verbatim instead of a completion."""
    content_type: str | None = None
    headers: dict[str, str] = {}


class Found(Wire):
    """One answer of the search service, to a search or to the request for a page."""

    results: list[dict[str, Any]] | None = None
    title: str = "Soup"
    content: str = "Soup is made of water."
    status: int = 200
    body: str | None = None
    """Sent verbatim."""
    hold: bool = False
    """Nothing is said until `release`."""
    seconds: float = 0


class Asked(Wire):
    """A request that reached the search service."""

    path: str
    body: dict[str, Any]


class Call(Wire):
    """A request for a completion that reached the double."""

    authorization: str
    body: dict[str, Any]

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages without the system prompt."""
        return [message for message in self.body["messages"] if message["role"] != "system"]

    @property
    def system(self) -> str:
        """The system prompt."""
        return str(next(message["content"] for message in self.body["messages"] if message["role"] == "system"))


_CALLS = TypeAdapter(list[Call])
_ASKED = TypeAdapter(list[Asked])


class LibertAISim:
    """Scripts a running double, in this process or another one, by its control API."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._http = httpx.AsyncClient(base_url=self.url, timeout=WAIT_SECONDS + 5, trust_env=False, verify=_NO_TLS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def base_url(self) -> str:
        """The OpenAI base URL."""
        return f"{self.url}/v1"

    async def set_key(self, key: str, state: KeyState = KeyState.OK) -> None:
        """Make a key known, or change its state."""
        await self._post("/sim/keys", Key(key=key, state=state))

    async def script(self, *scripts: Script) -> None:
        """Queue answers; each is used once, and when all are used the double makes answers up again."""
        for script in scripts:
            await self._post("/sim/scripts", script)

    async def always(self, script: Script) -> None:
        """Set the answer that is given when none is queued."""
        await self._post("/sim/always", script)

    async def reply(self, text: str) -> None:
        """Queue a plain answer."""
        await self.script(Script(text=text))

    async def call(self, name: str, **arguments: Any) -> None:
        """Queue an answer that is one call of a tool."""
        await self.script(Script(calls=[ToolCall(name=name, arguments=arguments)]))

    async def find(self, *found: Found) -> None:
        """Queue answers of the search service; when all are used it finds something about soup."""
        for each in found:
            await self._post("/sim/found", each)

    async def refuse(self, status: int, body: str | None = None) -> None:
        """Queue an error in LibertAI's words, or in these."""
        await self.script(Script(status=status, body=body))

    async def pace(self, *, first_token_seconds: float = 0, tokens_per_second: float | None = None) -> None:
        """Set the pace of all answers that do not bring their own."""
        await self._post(
            "/sim/pace", Pace(first_token_seconds=first_token_seconds, tokens_per_second=tokens_per_second)
        )

    async def release(self) -> None:
        """Let held answers go on."""
        await self._post("/sim/release", None)

    async def calls(self, at_least: int = 0) -> list[Call]:
        """List the completions asked for, waiting until there are so many."""
        response = await self._http.get("/sim/calls", params={"at_least": at_least})
        response.raise_for_status()
        return _CALLS.validate_json(response.content)

    async def asked(self, at_least: int = 0) -> list[Asked]:
        """List the requests to the search service, waiting until there are so many."""
        response = await self._http.get("/sim/asked", params={"at_least": at_least})
        response.raise_for_status()
        return _ASKED.validate_json(response.content)

    async def reset(self) -> None:
        """Forget scripts and calls; keys stay."""
        await self._post("/sim/reset", None)

    async def _post(self, path: str, body: Wire | None) -> None:
        content = body.model_dump_json() if body else b""
        response = await self._http.post(path, content=content, headers={"Content-Type": "application/json"})
        response.raise_for_status()
