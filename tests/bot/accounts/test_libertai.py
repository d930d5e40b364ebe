import asyncio
from datetime import UTC, datetime

import httpx
import pytest
from litestar import Litestar, MediaType, get
from litestar.response import Response
from pydantic import SecretStr

from bot.accounts.kept import KeptAnswers
from bot.accounts.libertai import CATALOGUE_SECONDS, RETRY_SECONDS, AccountUsage, KeyCheck, KeyState, LibertAI, Model
from bot.accounts.tools import ToolPolicy
from bot.errors import LibertAIUnreachable
from tests.fakes import libertai_sim as sim
from tests.fakes.libertai import LibertAIDouble
from tests.fakes.libertai_catalogue import ADDRESS
from tests.fakes.libertai_serving import Serving

KEY = SecretStr("LTAI_good")
AWAY = "http://127.0.0.1:1"  # tcpmux: nobody listens there
PREFERRED = ("glm-5.2", "not-there-any-more", "hermes-3-8b-tee")

GLM = Model("glm-5.2", 200_000, tools=True, reasoning=True, price_in=0.6, price_out=2.2)
HERMES = Model("hermes-3-8b-tee", 16_000, tools=True, tee=True, price_in=0.15, price_out=0.6)
DEEPSEEK = Model("deepseek-v4-flash", 200_000, tools=True, reasoning=True, price_in=0.25, price_out=1.75)
GEMMA = Model("gemma-4-31b-it", 262_144, tools=True, vision=True, reasoning=True, price_in=0.15, price_out=0.4)
QWEN_27B = Model("qwen3.6-27b", 262_144, tools=True, vision=True, reasoning=True, price_in=0.15, price_out=0.5)
QWEN_35B = Model("qwen3.6-35b-a3b", 262_144, tools=True, vision=True, reasoning=True, price_in=0.15, price_out=0.5)
CATALOGUE = [GLM, HERMES, DEEPSEEK, GEMMA, QWEN_27B, QWEN_35B]
FALLBACK = [Model(name) for name in PREFERRED]


@pytest.fixture
async def double():
    async with LibertAIDouble(keys=[KEY.get_secret_value()]) as libertai:
        yield libertai


@pytest.fixture
def asked():
    """Paths of the requests that were sent."""
    return []


@pytest.fixture
async def client(asked):
    async def note(request):
        asked.append(request.url.path)

    async with httpx.AsyncClient(trust_env=False, timeout=5, event_hooks={"request": [note]}) as opened:
        yield opened


@pytest.fixture
def make(client, database, double, clock):
    """LibertAI as the double serves it, save for what is given."""

    def build(**changes):
        given = {
            "gateway": double.url,
            "account": double.url,
            "inference_url": double.base_url,
            "prices_url": f"{double.url}/api/v0/aggregates/{ADDRESS}.json?keys=LTAI_PRICING",
            "default_models": PREFERRED,
            "kept": KeptAnswers(database),
            "clock": clock,
        }
        return LibertAI(client, **given | changes)

    return build


@get("/models")
async def foreign_models() -> dict[str, object]:
    return {"object": "list", "data": [{"id": "zephyr"}, {"id": "apertus"}, {"id": "apertus-thinking"}]}


@get("/none/models")
async def no_models() -> dict[str, object]:
    return {"object": "list", "data": []}


@get("/libertai/auth/check", media_type=MediaType.HTML)
async def broken_check() -> Response[str]:
    return Response("<html>Bad Gateway</html>", status_code=502)


@get("/portal/libertai/auth/check", media_type=MediaType.HTML)
async def portal() -> str:
    return "<html>Accept the terms of this network</html>"


@get("/firewall/libertai/auth/check", media_type=MediaType.HTML)
async def firewall() -> Response[str]:
    return Response("<html>Blocked</html>", status_code=403)


@get("/usage", media_type=MediaType.HTML)
async def html_usage() -> str:
    return "<html>Welcome</html>"


@get("/redirections")
async def redirections() -> dict[str, object]:
    hops = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "f"), ("round", "trip"), ("trip", "round")]
    return {"data": {"LTAI_PRICING": {"redirections": [{"from": old, "to": new} for old, new in hops]}}}


@get("/catalogue")
async def capabilities() -> dict[str, object]:
    can = {"glm-5.2": True, "dumb": False, "small": True}
    texts = [
        {"id": name, "capabilities": {"text": {"function_calling": able, "vision": name != "dumb"}}}
        for name, able in can.items()
    ]
    moved = [{"from": "glm-4.7", "to": "dumb"}]
    prices = {"models": [*texts, {"id": "painter", "capabilities": {"image": True}}], "redirections": moved}
    return {"data": {"LTAI_PRICING": prices}}


@pytest.fixture
async def catalogue():
    """Says of some models whether they can call tools."""
    serving = Serving(Litestar([capabilities], openapi_config=None, logging_config=None))
    await serving.start()
    yield serving.url
    await serving.stop()


@pytest.fixture
async def foreign():
    """A server that is not LibertAI: other models, and pages where LibertAI has answers."""
    routes = [foreign_models, no_models, broken_check, portal, firewall, html_usage, redirections]
    serving = Serving(Litestar(routes, openapi_config=None, logging_config=None))
    await serving.start()
    yield serving.url
    await serving.stop()


# Keys


async def test_a_key_is_good_when_the_gateway_takes_it(make):
    assert await make().check(KEY) == KeyCheck(KeyState.GOOD, None)


async def test_a_key_is_unknown_when_the_gateway_does_not_know_it(make):
    assert await make().check(SecretStr("LTAI_other")) == KeyCheck(KeyState.UNKNOWN, None)


@pytest.mark.parametrize(
    "state",
    [
        sim.KeyState.DISABLED,
        sim.KeyState.EXPIRED,
        sim.KeyState.MONTHLY_LIMIT,
        sim.KeyState.NO_CREDITS,
        sim.KeyState.EXTRA_CREDIT_CAP,
    ],
)
async def test_a_key_is_blocked_for_the_reason_the_gateway_gives(make, double, state):
    await double.set_key(KEY.get_secret_value(), state)

    assert await make().check(KEY) == KeyCheck(KeyState.BLOCKED, state.value)


@pytest.mark.parametrize("key", ["LTAI_a\nb", "LTAI_a\r\nX-Other: b", "LTAI_ключ", "LTAI a b", "LTAI_a\x00"])
async def test_a_key_is_unknown_without_a_request_when_no_header_can_carry_it(make, asked, key):
    assert await make().check(SecretStr(key)) == KeyCheck(KeyState.UNKNOWN, None)
    assert asked == []


async def test_a_check_is_unreachable_when_nobody_listens(make):
    with pytest.raises(LibertAIUnreachable):
        await make(gateway=AWAY).check(KEY)


@pytest.mark.parametrize("place", ["", "/portal", "/firewall"])
async def test_a_check_is_unreachable_when_a_page_answers_in_place_of_the_gateway(make, foreign, place):
    with pytest.raises(LibertAIUnreachable):
        await make(gateway=foreign + place).check(KEY)


async def test_an_unreachable_error_does_not_tell_the_key(make):
    with pytest.raises(LibertAIUnreachable) as caught:
        await make(gateway=AWAY).check(KEY)

    assert KEY.get_secret_value() not in str(caught.value)


# Usage


async def test_usage_is_what_the_account_tells(make):
    assert await make().usage(KEY) == AccountUsage(
        plan="free",
        window_5h_percent=12.5,
        weekly_percent=12.5,
        extra_credits=4.2,
        window_5h_resets_at=datetime(2026, 11, 21, 15, tzinfo=UTC),
        weekly_resets_at=datetime(2026, 11, 24, tzinfo=UTC),
    )


async def test_usage_is_none_when_the_key_is_not_accepted(make):
    assert await make().usage(SecretStr("LTAI_other")) is None


async def test_usage_is_unreachable_when_nobody_listens(make):
    with pytest.raises(LibertAIUnreachable):
        await make(account=AWAY).usage(KEY)


async def test_usage_is_unreachable_when_the_account_answers_a_page(make, foreign):
    with pytest.raises(LibertAIUnreachable):
        await make(account=foreign).usage(KEY)


# Models


async def test_models_are_the_listed_ones_that_use_tools_preferred_first(make):
    assert await make().models() == CATALOGUE


async def test_models_are_all_that_the_server_lists_when_there_is_no_catalogue(make):
    ids = [model.id for model in await make(prices_url="").models()]

    assert ids == [*(model.id for model in CATALOGUE), "scripted"]


async def test_models_are_the_servers_own_when_the_catalogue_knows_none_of_them(make, foreign):
    assert await make(inference_url=foreign).models() == [Model("apertus"), Model("zephyr")]


async def test_models_are_asked_for_again_only_after_five_minutes(make, clock, asked):
    libertai = make()
    await libertai.models()
    first = len(asked)

    clock.now += CATALOGUE_SECONDS - 1
    await libertai.models()
    assert len(asked) == first
    clock.now += 1
    await libertai.models()

    assert len(asked) == 2 * first


async def test_models_stay_when_the_catalogue_goes_away(make, double, clock):
    libertai = make()
    await libertai.models()
    await double.__aexit__(None, None, None)
    clock.now += CATALOGUE_SECONDS

    assert await libertai.models() == CATALOGUE


async def test_models_are_the_last_kept_ones_when_the_server_is_away_after_a_restart(make):
    await make().models()

    assert await make(inference_url=AWAY).models() == CATALOGUE


async def test_models_are_the_default_ones_when_the_server_was_never_reached(make):
    assert await make(inference_url=AWAY).models() == FALLBACK


async def test_models_are_the_default_ones_when_the_server_answers_something_else(make, double):
    assert await make(inference_url=f"{double.url}/libertai").models() == FALLBACK


async def test_models_are_the_default_ones_when_the_server_lists_none(make, foreign):
    assert await make(inference_url=f"{foreign}/none").models() == FALLBACK


async def test_models_are_those_still_listed_when_only_the_catalogue_is_away(make):
    listed = [Model("glm-5.2"), Model("hermes-3-8b-tee")]

    assert await make(prices_url=AWAY).models() == listed


async def test_models_are_the_servers_own_when_the_catalogue_is_away_and_none_is_known(make, foreign):
    assert await make(inference_url=foreign, prices_url=AWAY).models() == [Model("zephyr"), Model("apertus")]


# Tools


@pytest.mark.parametrize(
    ("model", "can"),
    [
        ("glm-5.2", True),
        ("dumb", False),
        ("small", True),
        ("glm-4.7", False),
        ("scripted", None),
        ("painter", None),
        ("never-heard-of", None),
    ],
)
async def test_the_catalogue_says_whether_a_model_can_call_tools(make, catalogue, model, can):
    assert await make(prices_url=f"{catalogue}/catalogue").can_call_tools(model) is can


@pytest.mark.parametrize(
    ("model", "can"), [("glm-5.2", True), ("dumb", False), ("glm-4.7", False), ("never-heard-of", None)]
)
async def test_the_catalogue_says_whether_a_model_can_see(make, catalogue, model, can):
    assert await make(prices_url=f"{catalogue}/catalogue").can_see(model) is can


async def test_whether_a_model_can_call_tools_is_remembered_while_the_catalogue_is_away(make, catalogue, clock):
    await make(prices_url=f"{catalogue}/catalogue").models()

    assert await make(prices_url=AWAY).can_call_tools("dumb") is False


async def test_nothing_is_known_of_tools_without_a_catalogue(make):
    assert await make(prices_url="").can_call_tools("glm-5.2") is None


@pytest.mark.parametrize(
    ("said", "model", "expected"),
    [
        ({"is_default": False}, "glm-5.2", (True, True)),
        ({"is_default": True}, "dumb", (False, False)),
        ({"is_default": True}, "smollm2-135m", (None, True)),
        ({"is_default": False}, "smollm2-135m", (None, False)),
        ({"is_allowed": False}, "glm-5.2", (False, False)),
        ({"is_allowed": False}, "smollm2-135m", (False, False)),
    ],
)
async def test_the_operator_and_then_the_catalogue_decide_on_tools(make, catalogue, said, model, expected):
    policy = ToolPolicy(make(prices_url=f"{catalogue}/catalogue"), **said)

    assert (await policy.known(model), await policy.decide(model)) == expected


async def test_models_are_asked_for_again_soon_when_they_were_away(make, double, clock, asked):
    libertai = make(prices_url=f"{double.url}/nowhere")
    await libertai.models()
    first = len(asked)

    clock.now += RETRY_SECONDS - 1
    await libertai.models()
    assert len(asked) == first
    clock.now += 1
    await libertai.models()

    assert len(asked) == 2 * first


async def test_models_are_looked_up_once_when_many_ask_at_the_same_time(make, asked):
    libertai = make()

    answers = await asyncio.gather(*(libertai.models() for _ in range(10)))

    assert answers == [CATALOGUE] * 10
    assert len(asked) == 2  # the list and the catalogue


# Redirections


@pytest.mark.parametrize(
    ("name", "now"), [("glm-4.7", "qwen3.6-27b"), ("ltai-fast", "qwen3.6-35b-a3b"), ("glm-5.2", "glm-5.2"), ("?", "?")]
)
async def test_a_model_resolves_to_its_name_of_today(make, name, now):
    assert await make().resolve(name) == now


@pytest.mark.parametrize(("name", "now"), [("a", "e"), ("b", "f"), ("round", "round")])
async def test_a_model_resolves_by_four_hops_at_most(make, foreign, name, now):
    assert await make(inference_url=foreign, prices_url=f"{foreign}/redirections").resolve(name) == now


async def test_a_model_resolves_as_it_last_did_when_libertai_is_away_after_a_restart(make):
    await make().models()

    assert await make(inference_url=AWAY, prices_url=AWAY).resolve("glm-4.7") == "qwen3.6-27b"


# Kept answers


async def test_a_kept_answer_is_none_when_there_is_none(database):
    assert await KeptAnswers(database).get("models") is None


async def test_a_kept_answer_takes_the_place_of_the_one_before(database):
    kept = KeptAnswers(database)
    await kept.put("models", "[1]")
    await kept.put("other", "[2]")
    await kept.put("models", "[3]")

    assert (await kept.get("models"), await kept.get("other")) == ("[3]", "[2]")
