from typing import Any

import pytest
from litestar import Litestar, Request, Response, get

from tests.bot.doctor.conftest import KEY, NOBODY
from tests.fakes.libertai_serving import Serving
from tests.fakes.libertai_sim import KeyState

CONSOLE = "https://console.libertai.io"


def host(double):
    return double.url.removeprefix("http://")


async def test_a_good_key_its_allowance_and_the_models(doctor, libertai):
    await doctor()

    assert doctor["key"] == f"✓ {host(libertai)} accepts LIBERTAI_API_KEY"
    assert doctor["allowance"] == "✓ plan free: 12 % of 5 hours and 12 % of the week used, $4.20 beside it"
    assert doctor["models"].startswith("✓ qwen3.6-35b-a3b, ")


@pytest.mark.parametrize("key", ["LTAI_unknown", "LTAI_of two words", "LTAI_ümlaut"])
async def test_a_key_that_nobody_knows(doctor, key):
    doctor.set(LIBERTAI_API_KEY=key)
    await doctor()

    assert doctor["key"] == f"✗ LibertAI does not know LIBERTAI_API_KEY: make one at {CONSOLE}"
    assert doctor["allowance"] == "· not checked: there is no key that is accepted"


@pytest.mark.parametrize(
    ("state", "line"),
    [
        (KeyState.NO_CREDITS, f"(no_credits): add credits at {CONSOLE}"),
        (KeyState.MONTHLY_LIMIT, f"(key_monthly_limit): raise its monthly limit at {CONSOLE}"),
        (KeyState.EXTRA_CREDIT_CAP, f"(extra_credit_cap): raise the cap of extra credits at {CONSOLE}"),
        (KeyState.EXPIRED, f"(expired): make another at {CONSOLE}"),
        (KeyState.DISABLED, f"(disabled): look at {CONSOLE}"),
    ],
)
async def test_a_key_that_is_blocked(doctor, libertai, state, line):
    await libertai.set_key(KEY, state)
    await doctor()

    assert doctor["key"] == f"✗ LibertAI blocks LIBERTAI_API_KEY {line}"


async def test_no_key_is_no_fault(doctor):
    doctor.set(LIBERTAI_API_KEY="")
    await doctor()

    assert doctor["key"] == "· LIBERTAI_API_KEY is empty: people have to connect their own, by /login"
    assert doctor.is_well


async def test_nobody_at_the_gateway(doctor):
    doctor.set(LIBERTAI_GATEWAY=NOBODY)
    await doctor()

    assert doctor["key"] == "✗ 127.0.0.1:1 does not say: try again later, or correct LIBERTAI_GATEWAY"
    assert doctor["models"] == (
        "✗ 127.0.0.1:1 does not answer (connection refused): "
        "look whether this host reaches it, and correct LIBERTAI_GATEWAY if it is wrong"
    )


async def test_nobody_at_the_account_service(doctor):
    doctor.set(LIBERTAI_ACCOUNT=NOBODY)
    await doctor()

    assert doctor["allowance"] == "✗ 127.0.0.1:1 does not tell it: try again later, or correct LIBERTAI_ACCOUNT"
    assert doctor.wrong == ["allowance"]


async def test_models_that_are_not_there(doctor):
    doctor.set(DEFAULT_MODELS="gpt-9, qwen3.6-35b-a3b")
    await doctor()
    assert doctor["models"] == "✓ qwen3.6-35b-a3b; not there: gpt-9"

    doctor.set(DEFAULT_MODELS="gpt-9")
    await doctor()
    assert doctor["models"].startswith("✗ none of DEFAULT_MODELS is there: name some of ")
    assert "qwen3.6-35b-a3b" in doctor["models"]


@pytest.fixture
async def other():
    @get("/v1/models")
    async def models(request: Request[Any, Any, Any]) -> Response[Any]:
        if request.headers.get("authorization") != "Bearer sk-right-key":
            return Response({"error": "sk-wrong-key is wrong"}, status_code=401)
        return Response({"data": [{"id": "llama"}, {"id": "mistral"}]})

    serving = Serving(Litestar([models], openapi_config=None, logging_config=None))
    await serving.start()
    yield serving
    await serving.stop()


async def test_another_server(doctor, other):
    doctor.set(LLM_BASE_URL=f"{other.url}/v1", LIBERTAI_API_KEY="sk-right-key")
    await doctor()

    assert doctor["key"] == f"✓ {host(other)} accepts it"
    assert doctor["models"] == "✓ 2 there, llama, mistral among them"
    assert doctor.all("allowance") == []
    assert doctor.is_well


async def test_another_server_refuses_the_key(doctor, other):
    doctor.set(LLM_BASE_URL=f"{other.url}/v1", LIBERTAI_API_KEY="sk-wrong-key")
    table = await doctor()

    assert doctor["key"] == f"✗ {host(other)} refuses the key: set LIBERTAI_API_KEY to one of its own"
    assert doctor["models"] == "· not checked: the server does not list its models"
    assert "sk-wrong-key" not in table


async def test_another_server_lacks_the_models_that_were_named(doctor, other):
    doctor.set(LLM_BASE_URL=f"{other.url}/v1", LIBERTAI_API_KEY="sk-right-key", DEFAULT_MODELS="gpt-9")
    await doctor()

    assert doctor["models"] == "✗ none of DEFAULT_MODELS is there: name some of llama, mistral"


async def test_another_server_at_a_wrong_path(doctor, other):
    doctor.set(LLM_BASE_URL=other.url, LIBERTAI_API_KEY="sk-right-key")
    await doctor()

    assert doctor["key"] == (
        f"✗ {host(other)} lists no models (HTTP 404): correct LLM_BASE_URL (it mostly ends in /v1)"
    )
