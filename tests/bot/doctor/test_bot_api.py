import pytest

from tests.bot.doctor.conftest import NOBODY
from tests.fakes.telegram_views import Fault, FaultKind

REFUSED = "✗ Telegram refuses it: ask @BotFather for a new one and set TELEGRAM_BOT_TOKEN"


async def test_a_good_token_shows_the_bots_name(doctor):
    await doctor()

    assert doctor["token"] == "✓ @baal_demo_bot"
    assert doctor["webhook"] == "✓ none, as polling needs it"


@pytest.mark.parametrize("token", ["42:wrong", "42:with/slash#and?more", "42:with space"])
async def test_a_token_that_telegram_refuses(doctor, token):
    doctor.set(TELEGRAM_BOT_TOKEN=token)
    await doctor()

    assert doctor["token"] == REFUSED
    assert doctor["webhook"] == "· not checked: the token is not accepted"
    assert doctor.wrong == ["token"]
    assert not doctor.is_well


async def test_a_webhook_is_told_by_its_host_alone(doctor, telegram):
    await telegram.call("setWebhook", url="https://user:pass@example.org:8443/secret-path")
    await doctor()

    remedy = f"{telegram.url}/bot<TELEGRAM_BOT_TOKEN>/deleteWebhook"
    assert doctor["webhook"] == (
        f"✗ set to example.org:8443, so the bot hears nothing: end what uses it, then open {remedy}"
    )


async def test_nobody_at_the_base(doctor):
    doctor.set(TELEGRAM_API_BASE=NOBODY)
    await doctor()

    assert doctor["token"] == (
        "✗ 127.0.0.1:1 does not answer (connection refused): "
        "look whether this host reaches it, and correct TELEGRAM_API_BASE if it is wrong"
    )


async def test_something_else_at_the_base(doctor, libertai):
    doctor.set(TELEGRAM_API_BASE=libertai.url)
    await doctor()

    where = libertai.url.removeprefix("http://")
    assert doctor["token"] == f"✗ what answers at {where} is not a Bot API: correct TELEGRAM_API_BASE"


@pytest.mark.parametrize("base", ["api.telegram.org", "http://", "http://host:port", "ftp://x"])
async def test_a_base_that_is_no_url(doctor, base):
    doctor.set(TELEGRAM_API_BASE=base)
    await doctor()

    assert doctor["token"] == "✗ TELEGRAM_API_BASE is not a URL: write https://…"


async def test_telegram_in_trouble(doctor, telegram):
    telegram.server.api.faults.add(Fault(method="getMe", kind=FaultKind.SERVER_ERROR))
    await doctor()

    where = telegram.url.removeprefix("http://")
    assert doctor["token"] == f"✗ {where} is in trouble (HTTP 500): try again later"
