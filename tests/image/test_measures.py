"""The table of measures, the record of the last release, and that the images keep their limits."""

import gzip
import io
import secrets
import tarfile

import pytest

from scripts.image import limits, registry
from scripts.image.check import ATTACK_LIST, attack
from scripts.image.limits import MEASURES, RELEASED, Released
from scripts.image.measures import layer_bytes, measure
from tests.containers import ROOT, image_names

GOOD = {
    "agent_compressed": 86.55,
    "agent_layers": 6,
    "bot_compressed": 110.0,
    "bot_layers": 5,
    "start": 0.71,
    "idle_memory": 62.5,
    "rebuild": 0.8,
    "push": 0.1,
    "changed_layers": 1,
}


def test_each_measure_stands_beside_its_limit_and_the_last_release():
    before = Released("1.2.0", GOOD | {"agent_compressed": 79.0})

    lines = list(limits.table(GOOD, before))

    assert len(lines) == 1 + len(MEASURES)
    assert lines[0].split() == ["now", "limit", "1.2.0"]
    assert lines[1].split()[-7:] == ["86.5", "MB", "90.0", "MB", "79.0", "MB", "ok"]
    assert lines[5].endswith("0.71 s    1.50 s    0.71 s  ok")


def test_before_the_first_release_there_is_nothing_to_compare_with(tmp_path):
    lines = list(limits.table(GOOD, limits.read(tmp_path)))

    assert lines[0].split() == ["now", "limit", "-"]
    assert lines[1].split()[-3:] == ["MB", "-", "ok"]


@pytest.mark.parametrize("key", ["agent_compressed", "idle_memory", "changed_layers"])
def test_more_than_a_limit_is_a_failure(key):
    values = GOOD | {key: 1000}

    (failure,) = limits.broken(values)

    assert "1000" in failure
    assert sum(line.endswith("TOO MUCH") for line in limits.table(values, None)) == 1


@pytest.mark.parametrize("key", ["start", "rebuild", "push"])
def test_a_busy_machine_is_told_and_fails_nothing(key):
    values = GOOD | {key: 1000}

    assert limits.broken(values) == []
    assert sum(line.endswith("slow") for line in limits.table(values, None)) == 1


def test_what_could_not_be_measured_is_left_out():
    values = {key: value for key, value in GOOD.items() if key != "push"}

    assert len(list(limits.table(values, Released("1.2.0", GOOD)))) == len(MEASURES)
    assert limits.broken(values) == []


def test_a_record_is_read_as_it_was_written(tmp_path):
    (tmp_path / RELEASED).parent.mkdir(parents=True)

    limits.write(tmp_path, Released("1.2.0", GOOD))

    assert limits.read(tmp_path) == Released("1.2.0", GOOD)


@pytest.mark.image
@pytest.mark.timeout(600)
def test_the_images_keep_their_limits(docker_client, agent_image, bot_image):
    values = measure({"agent": agent_image, "bot": bot_image}, ROOT)

    assert limits.broken(values) == []
    assert set(values) >= {entry.key for entry in MEASURES} - ({"push"} if not registry.is_installed() else set())
    assert not [name for name in image_names(docker_client, "") if "measured" in name]


@pytest.mark.image
def test_without_a_registry_the_size_is_that_of_gzip(docker_client):
    data = b"words " * 100_000
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        entry = tarfile.TarInfo("file")
        entry.size = len(data)
        archive.addfile(entry, io.BytesIO(data))
    image = f"baal-test-{secrets.token_hex(4)}"
    docker_client.api.import_image_from_data(buffer.getvalue(), repository=image)
    try:
        (size,) = layer_bytes(image, None)
    finally:
        docker_client.images.remove(image)

    assert size == pytest.approx(len(gzip.compress(buffer.getvalue(), compresslevel=6)), rel=0.5)


ATTACKS = """
import os, pytest
def test_a_door_stays_shut(): assert os.environ["IMAGE_UNDER_TEST"] == "some/image:1"
def test_a_wall_holds(): assert "the wall" == "rubble"
@pytest.mark.skip(reason="no such kernel")
def test_a_moat_is_full(): pass
@pytest.fixture
def bridge(): raise RuntimeError("no bridge")
def test_a_bridge_is_up(bridge): pass
"""


def test_each_attack_is_one_line_and_one_that_succeeds_is_a_failure(tmp_path, capsys):
    (tmp_path / ATTACK_LIST).parent.mkdir(parents=True)
    (tmp_path / ATTACK_LIST).write_text(ATTACKS)

    failures = attack("some/image:1", tmp_path)

    assert [line.split(": ")[0] for line in failures] == ["a wall holds", "a bridge is up"]
    assert capsys.readouterr().out.splitlines() == [
        "  ok      a door stays shut",
        "  FAILED  a wall holds",
        "  skipped a moat is full: no such kernel",
        "  FAILED  a bridge is up",
    ]


def test_attacks_that_cannot_be_run_are_no_success(tmp_path):
    (tmp_path / ATTACK_LIST).parent.mkdir(parents=True)
    (tmp_path / ATTACK_LIST).write_text("import nothing_of_that_name\n")

    assert attack("some/image:1", tmp_path)


def test_no_attacks_at_all_are_no_success(tmp_path):
    assert attack("some/image:1", tmp_path)
