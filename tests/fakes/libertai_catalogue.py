"""LibertAI's models as the double serves them: the public aggregate's shape, shortened to what tells models apart."""

from dataclasses import dataclass
from typing import Any

ADDRESS = "0xe1F7220D201C64871Cefb25320a8a588393eE508"


@dataclass(frozen=True, slots=True)
class TextModel:
    """A model one can chat with."""

    id: str
    name: str
    context_window: int
    input_price: float
    output_price: float
    vision: bool = False
    reasoning: bool = False
    tee: bool = False
    function_calling: bool = True


TEXT_MODELS = (
    TextModel("hermes-3-8b-tee", "Hermes 3 8B (TEE)", 16_000, 0.15, 0.6, tee=True),
    TextModel("gemma-4-31b-it", "Gemma 4 31B", 262_144, 0.15, 0.4, vision=True, reasoning=True),
    TextModel("qwen3.6-35b-a3b", "Qwen3.6-35B-A3B", 262_144, 0.15, 0.5, vision=True, reasoning=True),
    TextModel("qwen3.6-27b", "Qwen3.6-27B", 262_144, 0.15, 0.5, vision=True, reasoning=True),
    TextModel("deepseek-v4-flash", "DeepSeek V4 Flash", 200_000, 0.25, 1.75, reasoning=True),
    TextModel("glm-5.2", "GLM 5.2", 200_000, 0.6, 2.2, reasoning=True),
)
SCRIPTED = TextModel("scripted", "Scripted model", 32_000, 0.0, 0.0)
"""What the demo uses when there is neither a key nor a local model. It is not in the aggregate."""

REDIRECTIONS = (
    ("ltai-fast", "qwen3.6-35b-a3b", "INTERNAL"),
    ("ltai-core", "qwen3.6-27b", "INTERNAL"),
    ("glm-4.7", "qwen3.6-27b", "DEPRECATED"),
    ("gemma-3-27b", "gemma-4-31b-it", "DEPRECATED"),
)

BY_ID = {model.id: model for model in (*TEXT_MODELS, SCRIPTED)}


def find(name: str) -> TextModel | None:
    """Find a model as the gateway does: through redirections, and under its thinking name."""
    redirected = {old: new for old, new, _ in REDIRECTIONS}.get(name, name)
    model = BY_ID.get(redirected.removesuffix("-thinking"))
    return model if model and (model.reasoning or not redirected.endswith("-thinking")) else None


def aggregate() -> dict[str, Any]:
    """Answer of the public aggregate endpoint for `keys=LTAI_PRICING`."""
    pricing = {"models": [*map(_entry, TEXT_MODELS), *_OTHERS], "redirections": [*map(_redirection, REDIRECTIONS)]}
    return {"address": ADDRESS, "data": {"LTAI_PRICING": pricing}, "info": {}}


def model_ids() -> list[str]:
    """List the ids of `GET /v1/models`."""
    thinking = [f"{model.id}-thinking" for model in TEXT_MODELS if model.reasoning]
    return [*BY_ID, *thinking]


def _entry(model: TextModel) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "hf_id": f"example/{model.id}",
        "pricing": {
            "text": {
                "price_per_million_input_tokens": model.input_price,
                "price_per_million_output_tokens": model.output_price,
            }
        },
        "capabilities": {
            "text": {
                "tee": model.tee,
                "vision": model.vision,
                "reasoning": model.reasoning,
                "context_window": model.context_window,
                "function_calling": model.function_calling,
            }
        },
    }


def _redirection(redirection: tuple[str, str, str]) -> dict[str, str]:
    old, new, kind = redirection
    return {"to": new, "from": old, "type": kind, "category": "text", "description": f"{old} is now {new}"}


_OTHERS: tuple[dict[str, Any], ...] = (
    {
        "id": "z-image-turbo",
        "name": "Z-Image Turbo",
        "hf_id": "Tongyi-MAI/Z-Image-Turbo",
        "pricing": {"image": 0.005},
        "capabilities": {"image": True},
    },
    {
        "id": "search/duckduckgo",
        "name": "Search: DuckDuckGo",
        "pricing": {"search": 0.002},
        "capabilities": {"search": True},
    },
    {
        "id": "bge-m3",
        "name": "BGE-M3",
        "hf_id": "BAAI/bge-m3",
        "pricing": {"embedding": {"price_per_million_input_tokens": 0.01}},
        "capabilities": {"embedding": {"dimensions": 1024, "context_window": 8192}},
    },
)
