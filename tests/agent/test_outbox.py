"""Letters by cursor and acknowledgement: nothing lost, no number given out twice."""

import pytest

from agent.outbox import PAGE, Outbox
from agent.protocol import Attachment
from agent.store import Store

NOW = 1_800_000_000.0
FILE = Attachment(id="f1", name="soup.png", media_type="image/png", size=3)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "agent"


@pytest.fixture
def opened(folder):
    """Opens the outbox anew, as after a restart."""
    stores: list[Store] = []

    def start(now=NOW):
        for store in stores:
            store.close()
        stores[:] = [Store(folder)]
        return Outbox(stores[0], clock=lambda: now)

    yield start
    for store in stores:
        store.close()


def test_letters_come_oldest_first_and_stay_until_they_are_dropped(opened):
    outbox = opened()
    outbox.add("c1", "one", [FILE])
    outbox.add("c2", "two")

    first, second = outbox.page()

    assert (first.chat_id, first.text, first.created, first.files) == ("c1", "one", NOW, (FILE,))
    assert [letter.text for letter in outbox.page(first.id)] == ["two"]
    outbox.drop(first.id)
    outbox.drop(first.id)
    outbox.drop(1)
    assert outbox.page() == (second,)
    assert outbox.has_after(first.id)
    assert not outbox.has_after(second.id)


def test_a_page_has_a_hundred_and_the_next_goes_on_behind_it(opened):
    outbox = opened()
    for number in range(PAGE + 2):
        outbox.add("c1", str(number))

    page = outbox.page()

    assert len(page) == PAGE
    assert [letter.text for letter in outbox.page(page[-1].id)] == ["100", "101"]


@pytest.mark.parametrize("later", [60, 0, -3600], ids=["later", "at once", "the clock was put back"])
def test_numbers_only_grow_also_over_restarts_and_when_the_outbox_was_empty(opened, later):
    outbox = opened()
    outbox.add("c1", "one")
    (before,) = outbox.page()
    outbox.drop(before.id)

    outbox = opened(NOW + later)
    outbox.add("c1", "two")

    assert outbox.page()[0].id > before.id


def test_an_older_snapshot_gives_out_no_number_that_was_used_after_it(opened, folder):
    outbox = opened()
    outbox.add("c1", "in the snapshot")
    opened()
    snapshot = (folder / "agent.db").read_bytes()
    opened(NOW + 5).add("c1", "delivered after it")
    lost = opened(NOW + 5).page()[-1].id

    for path in folder.iterdir():
        path.unlink()
    (folder / "agent.db").write_bytes(snapshot)
    outbox = opened(NOW + 60)
    outbox.add("c1", "another")

    assert [letter.text for letter in outbox.page()] == ["in the snapshot", "another"]
    assert outbox.page()[-1].id > lost


async def test_letters_are_read_and_acknowledged_over_http(client):
    outbox = client.agenda.outbox
    outbox.add("c1", "one")
    outbox.add("c1", "two")
    first, second = outbox.page()

    got = (await client.http.get("/outbox")).json()
    assert [letter["text"] for letter in got["letters"]] == ["one", "two"]
    assert got["next_due"] is None, "when these are safe there is nothing to do"
    rest = (await client.http.get("/outbox", params={"after": first.id})).json()
    assert [letter["id"] for letter in rest["letters"]] == [second.id]
    assert (await client.http.get("/health")).json()["next_due"] == 0, "letters wait"

    for _ in range(2):
        answer = await client.http.post("/outbox/ack", json={"up_to": first.id})
        assert answer.status_code == 204
    assert [letter.text for letter in outbox.page()] == ["two"]
    assert (await client.http.post("/outbox/ack", json={"up_to": -1})).status_code == 400


@pytest.mark.parametrize(("method", "path"), [("POST", "/tick"), ("GET", "/outbox"), ("POST", "/outbox/ack")])
async def test_a_stranger_reads_and_drops_nothing(client, method, path):
    answer = await client.http.request(method, path, headers={"Authorization": "Bearer wrong"})
    assert answer.status_code == 401


async def test_strangers_are_not_told_when_something_is_due(client):
    client.agenda.outbox.add("c1", "one")
    answer = await client.http.get("/health", headers={"Authorization": "Bearer wrong"})
    assert answer.json()["next_due"] is None
