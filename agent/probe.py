"""One word from the model: key, model and network of this machine work, before anybody's turn needs them."""

import asyncio

from agent import log
from agent.config import Live
from agent.errors import HINTS, STATUSES, ModelFailed, Refused
from agent.llm import Llm, Server
from agent.protocol import ErrorKind
from agent.store import Message, Speaker

PROBE_SECONDS = 20.0
"""Also a model that has to be loaded first has said a word by then."""
_MAX_TOKENS = 16
"""A model that thinks first is cut off in its thoughts, and that is an answer too."""
_SYSTEM = "You are being tested. Answer with one word."
_QUESTION = "Say: ready"


class Prober:
    """Asks the model that is in force. Nothing of it is kept or counted: any mode will do."""

    def __init__(self, server: Server, live: Live, seconds: float = PROBE_SECONDS) -> None:
        self._server = server
        self._live = live
        self._seconds = seconds

    async def probe(self) -> None:
        """Return when a completion came back; `Refused` with the `ErrorKind` and the person's text if none did."""
        llm = Llm(self._server, self._live.settings().agent_model, _MAX_TOKENS)
        try:
            async with asyncio.timeout(self._seconds):
                await llm.complete(_SYSTEM, [Message(Speaker.USER, _QUESTION)], lambda _: None)
        except ModelFailed as failure:
            log.warning("probe failed", reason=str(failure))
            raise _refused(failure.kind) from failure
        except TimeoutError as error:
            log.warning("probe failed", reason=f"no answer within {self._seconds:.0f} s")
            raise _refused(ErrorKind.UNREACHABLE) from error


def _refused(kind: ErrorKind) -> Refused:
    return Refused(STATUSES[kind], kind, HINTS[kind])
