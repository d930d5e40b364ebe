import pytest

from tests.containers import BOT_IMAGE, boxes_of, build


@pytest.fixture(scope="session")
def bot_image(docker_client, tmp_path_factory):
    """The bot's image, built from this tree."""
    build("bot", tmp_path_factory.getbasetemp().parent)
    return BOT_IMAGE


@pytest.fixture
def boxes(docker_client, agent_image):
    """Makes containers of the agent image; they are gone after the test."""
    yield from boxes_of(docker_client)


@pytest.fixture(scope="module")
def box(docker_client, agent_image):
    """One running container for tests that leave it as it was."""
    for made in boxes_of(docker_client):
        running = made.start()
        running.wait_healthy()
        yield running
