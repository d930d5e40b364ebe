"""From one machine to the next while people wait: only what has changed goes, and both say that it is the same."""

import os
import sqlite3
import time
from contextlib import closing

import pytest

from agent.bases import KEPT, Bases
from agent.listing import Range
from agent.protocol import Done, Manifest
from tests.agent.conftest import AgentProcess
from tests.agent.test_snapshot import fill, manifest_of, members, put, seen


@pytest.fixture
def workspace(tmp_path):
    folder = tmp_path / "data" / "workspace"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def there(tmp_path):
    return tmp_path / "other" / "workspace"


@pytest.fixture
async def old(agents, workspace):
    return await agents()


@pytest.fixture
async def new(agents, tmp_path):
    return await agents(agent_mode="standby", agent_data=tmp_path / "other")


async def take(client, base=""):
    response = await client.http.get("/snapshot", params={"base": base}, timeout=60)
    assert response.status_code == 200, response.text
    return response.content


async def seal(client, epoch=1):
    response = await client.http.post("/seal", json={"epoch": epoch})
    assert response.status_code == 200, response.text
    return Manifest.model_validate_json(response.content)


async def given(client, archive):
    response = await put(client, archive)
    assert response.status_code == 200, response.text
    return Manifest.model_validate_json(response.content)


async def presync(old, new):
    """The whole state goes while the old one works; its mark."""
    return (await given(new, await take(old))).mark


def files_in(archive):
    """The names of the files whose bytes it holds."""
    import io  # noqa: PLC0415
    import tarfile  # noqa: PLC0415

    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        return {member.name for member in opened if member.isreg()} - {"agent.db", "workspace.list", "manifest.json"}


def long_ago(folder):
    """Wait until the time of what is there is none that a change now could have too."""
    newest = max(path.lstat().st_ctime for path in folder.rglob("*"))
    while time.time() < newest + 1.01:
        time.sleep(0.01)


# --- what goes


async def test_only_what_has_changed_goes_and_all_is_there(old, new, workspace, there):
    fill(workspace)
    (workspace / "was.txt").write_text("renamed")
    (workspace / "folder").mkdir()
    (workspace / "folder" / "inside").write_text("moved with its folder")
    (workspace / "gone").write_text("gone")
    (workspace / "kind").write_text("a file, then a folder")
    long_ago(workspace)
    mark = await presync(old, new)
    await old.events("meanwhile", turn_id="t1")
    (workspace / "plain.txt").write_text("new words")
    (workspace / "was.txt").rename(workspace / "is.txt")
    (workspace / "folder").rename(workspace / "new folder")
    (workspace / "gone").unlink()
    (workspace / "kind").unlink()
    (workspace / "kind").mkdir()
    (workspace / "link").unlink()
    (workspace / "link").symlink_to("elsewhere")
    (workspace / "deep" / "er" / "run.sh").chmod(0o700)

    sealed = await seal(old)
    delta = await take(old, mark)
    restored = await given(new, delta)

    sent = {"plain.txt", "is.txt", "new folder/inside", "deep/er/run.sh"}
    assert files_in(delta) == {f"workspace/{name}" for name in sent}
    assert seen(there) == seen(workspace)
    assert (restored.base, restored.fingerprint) == (mark, sealed.fingerprint)
    assert (restored.counts, restored.last_turn) == (sealed.counts, "t1")
    assert (there / "plain.txt").stat().st_mtime_ns == (workspace / "plain.txt").stat().st_mtime_ns
    assert (await new.http.post("/activate", json={"epoch": 1})).status_code == 204
    assert isinstance((await new.events(turn_id="t1"))[-1], Done)
    assert isinstance((await new.events("at once", turn_id="t2"))[-1], Done)


async def test_deltas_go_one_after_another(old, new, workspace, there):
    (workspace / "a").write_text("a")
    mark = await presync(old, new)
    (workspace / "b").write_text("b")
    second = await given(new, await take(old, mark))
    (workspace / "a").unlink()
    third = await given(new, await take(old, second.mark))
    assert (second.base, third.base) == (mark, second.mark)
    assert [path.name for path in there.iterdir()] == ["b"]


async def test_nothing_new_is_next_to_nothing(old, new, workspace):
    (workspace / "big").write_bytes(os.urandom(5_000_000))
    long_ago(workspace)
    mark = await presync(old, new)
    await seal(old)
    first, last = members(delta := await take(old, mark))
    assert len(delta) - first.size < 10_000
    assert await take(old, mark) == delta, "of a sealed agent it is the same however often it is asked"
    assert last.name == "manifest.json"


async def test_a_change_that_hides_its_time_goes_all_the_same(old, new, workspace, there):
    file = workspace / "a"
    file.write_text("before")
    long_ago(workspace)
    mark = await presync(old, new)
    times = file.stat()
    file.write_text("behind")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    await given(new, await take(old, mark))
    assert (there / "a").read_text() == "behind"


async def test_what_was_written_in_the_moment_of_packing_goes_again(old, new, workspace):
    (workspace / "a").write_text("just now")
    mark = await presync(old, new)
    assert files_in(await take(old, mark)) == {"workspace/a"}


async def test_who_has_another_base_is_told_so_and_keeps_what_it_has(old, new, workspace, there):
    (workspace / "a").write_text("a")
    mark = await presync(old, new)
    (workspace / "a").write_text("b")
    second = manifest_of(await take(old, mark)).mark  # never arrived
    before = seen(there)
    refused = await put(new, await take(old, second))
    assert (refused.status_code, refused.json()["kind"]) == (409, "other_base")
    assert seen(there) == before
    assert (await new.http.get("/health")).json()["trouble"] is None
    assert (await given(new, await take(old))).base == ""


async def test_what_was_changed_on_the_new_machine_is_found_before_anything_is_touched(old, new, workspace, there):
    (workspace / "a").write_text("a")
    (workspace / "b").write_text("b")
    long_ago(workspace)
    mark = await presync(old, new)
    (workspace / "b").write_text("newer")
    (there / "a").write_text("somebody was here")
    before, counted = seen(there), await take(new)
    refused = await put(new, await take(old, mark))
    assert (refused.status_code, refused.json()["kind"]) == (409, "other_base")
    assert (seen(there), manifest_of(await take(new)).counts) == (before, manifest_of(counted).counts)
    assert (await new.http.get("/health")).json()["trouble"] is None
    await given(new, await take(old))
    assert seen(there) == seen(workspace)


async def test_a_mark_that_is_not_known_gets_a_whole_one(agents, old, workspace):
    (workspace / "a").write_text("a")
    mark = manifest_of(await take(old)).mark
    for unknown in ("x", "../agent.db", mark[:-1]):
        assert manifest_of(await take(old, unknown)).base == ""
    await agents.stop(old)
    assert manifest_of(await take(await agents(), mark)).base == "", "after a restart"


async def test_a_delta_does_not_go_to_one_that_has_worked(agents, old, new, tmp_path):
    mark = await presync(old, new)
    await new.http.post("/activate", json={"epoch": 1})
    await agents.stop(new)
    (tmp_path / "other" / "mode.json").unlink()
    again = await agents(agent_mode="standby", agent_data=tmp_path / "other")
    assert (await put(again, await take(old, mark))).json()["kind"] == "other_base"


async def test_a_delta_that_was_cut_off_is_finished_at_the_next_start(agents, old, new, tmp_path):
    workspace, there = (tmp_path / name / "workspace" for name in ("data", "other"))
    fill(workspace)
    long_ago(workspace)
    mark = await presync(old, new)
    (workspace / "plain.txt").write_text("new words")
    (workspace / "quo\"te's").unlink()
    await old.ask(turn_id="t1")
    delta = await take(old, mark)
    await agents.stop(new)
    (tmp_path / "other" / "snapshots" / "received.tar").write_bytes(delta)  # as a crash after the check leaves it
    (there / "plain.txt").unlink()  # and one in the middle of its files

    again = await agents(agent_mode="standby", agent_data=tmp_path / "other")

    assert seen(there) == seen(workspace)
    assert (await again.http.get("/health")).json()["trouble"] is None
    await again.http.post("/activate", json={"epoch": 1})
    assert isinstance((await again.events(turn_id="t1"))[-1], Done)


async def test_sealing_and_restoring_say_the_same_and_a_change_of_anything_says_another(old, new, workspace):
    fill(workspace)
    whole = await take(old)
    sealed = await seal(old)
    assert manifest_of(whole).fingerprint == sealed.fingerprint == (await given(new, whole)).fingerprint
    prints = {sealed.fingerprint}
    changes = [
        lambda: (workspace / "plain.txt").chmod(0o700),
        lambda: os.utime(workspace / "plain.txt", ns=(1, 1)),
        (workspace / "away").unlink,
        lambda: (workspace / "empty").rename(workspace / "still empty"),
        lambda: (workspace / "plain.txt").write_text("other"),
    ]
    for change in changes:
        change()
        prints.add(manifest_of(await take(old)).fingerprint)
    assert len(prints) == len(changes) + 1


# --- marks


class Clock:
    def __init__(self, now):
        self.now = now

    def __call__(self):
        return self.now


def keep(bases, folder, text):
    path = folder / "a list"
    path.write_bytes(text)
    return bases.keep(path, Range(0, len(text)), bases.now())


def test_a_mark_is_not_trusted_when_the_clock_was_put_back(tmp_path):
    wall, steady = Clock(10**18), Clock(10**12)
    bases = Bases(tmp_path / "bases", wall, steady)
    mark = keep(bases, tmp_path, b'["a"]\t1 1\t1\n')
    wall.now, steady.now = wall.now + 10**9, steady.now + 10**9
    found = bases.find(mark)
    assert found
    assert found.since < 10**18, "what was written in the moment of packing may have changed in it"
    assert found.path.read_bytes() == b'["a"]\t1 1\t1\n'
    wall.now -= 2 * 10**9
    assert bases.find(mark) is None


def test_who_has_read_the_same_list_earlier_misses_nothing(tmp_path):
    wall, steady = Clock(10**18), Clock(10**12)
    bases = Bases(tmp_path / "bases", wall, steady)
    mark = keep(bases, tmp_path, b'["a"]\t1 1\t1\n')
    wall.now, steady.now = wall.now + 10**10, steady.now + 10**10
    assert keep(bases, tmp_path, b'["a"]\t1 1\t0\n') == mark
    found = bases.find(mark)
    assert found
    assert found.since < 10**18


def test_the_newest_marks_are_kept(tmp_path):
    bases = Bases(tmp_path / "bases")
    marks = [keep(bases, tmp_path, b'["a"]\t%d 1\t1\n' % number) for number in range(KEPT + 2)]
    assert [bool(bases.find(mark)) for mark in marks] == [False] * 2 + [True] * KEPT
    assert len(list((tmp_path / "bases").iterdir())) == KEPT


# --- the silence


@pytest.fixture
async def machines(environment, tmp_path):
    environment = environment | {"AGENT_MODE": "standby"}
    made = [AgentProcess(environment | {"AGENT_DATA": str(tmp_path / name)}) for name in ("data", "other")]
    yield made
    for machine in made:
        await machine.stop()


def lived(folder):
    """An agent of 10,000 messages and 100 MB of files."""
    with closing(sqlite3.connect(folder / "agent.db")) as database:
        said = [(f"c{n % 20}", f"t{n // 2}", ("user", "assistant")[n % 2], "word " * 60) for n in range(10_000)]
        database.executemany("INSERT INTO message (chat_id, turn_id, speaker, text) VALUES (?, ?, ?, ?)", said)
        database.commit()
    for number in range(500):
        place = folder / "workspace" / f"d{number % 20}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"f{number}").write_bytes(os.urandom(200_000))


@pytest.mark.e2e
async def test_a_hand_over_of_a_hundred_megabytes_is_over_in_a_moment(machines, tmp_path):
    (await (await machines[0].start()).http.get("/health")).raise_for_status()
    await machines[0].stop()
    lived(tmp_path / "data")
    old, new = [await machine.start() for machine in machines]
    await old.http.post("/activate", json={"epoch": 1})
    long_ago(tmp_path / "data" / "workspace")
    begun = time.perf_counter()
    mark = await presync(old, new)
    whole = time.perf_counter() - begun
    (tmp_path / "data" / "workspace" / "d3" / "new").write_bytes(os.urandom(50_000))
    await old.ask(turn_id="t1")

    took = {"begun": time.perf_counter()}
    sealed = await seal(old, 2)
    took["seal"] = time.perf_counter()
    delta = await take(old, mark)
    took["delta"] = time.perf_counter()
    restored = await given(new, delta)
    took["restore"] = time.perf_counter()
    assert (await new.http.post("/activate", json={"epoch": 2})).status_code == 204
    took["activate"] = time.perf_counter()
    assert isinstance((await new.events("and on", turn_id="t2"))[-1], Done)

    laps = dict(
        zip(list(took)[1:], [b - a for a, b in zip(took.values(), list(took.values())[1:], strict=False)], strict=True)
    )
    shown = {name: f"{seconds * 1000:.0f} ms" for name, seconds in {"all of it": whole, **laps}.items()}
    print(shown, f"{len(delta):,} bytes")  # noqa: T201
    assert restored.fingerprint == sealed.fingerprint
    assert len(delta) < 10_000_000
    assert sum(laps.values()) < whole
