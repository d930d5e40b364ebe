import pytest
from pydantic import SecretStr

from bot.machines.engine import Spec
from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine

MACHINE = "m-0123456789abcdef"


@pytest.fixture
def engine():
    return ProcessEngine()


@pytest.fixture
def new_engine():
    """What a restarted bot has: an engine that started nothing itself."""
    return ProcessEngine


@pytest.fixture
async def provider(tmp_path, engine):
    provider = LocalProvider(tmp_path / "machines", engine)
    yield provider
    for machine in await provider.listed():
        await provider.give_back(machine)


@pytest.fixture
def spec():
    return Spec(
        release="r1",
        name="Chef Ada",
        job="Plans meals.",
        model="scripted",
        secret=SecretStr("a-secret-of-thirty-two-characters"),
        llm_base_url="http://127.0.0.1:9/v1",
        llm_api_key=SecretStr("LTAI_key_that_must_stay_secret"),
    )
