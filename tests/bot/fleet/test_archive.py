"""An archive that streams by is looked through; the form is the agent's own."""

import json
import random
import tarfile

import pytest

from agent.archive import inspect
from bot.errors import SnapshotBroken
from bot.fleet.archive import Archive
from tests.bot.fleet.archives import BLOCK, archive, entry, full, manifest, part


def fed(content: bytes, size: int = 10_000):
    looked = Archive()
    for start in range(0, len(content), size):
        looked.feed(content[start : start + size])
    return looked.finish()


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1 << 20])
def test_an_archive_is_the_same_however_it_is_cut_into_pieces(size):
    assert fed(full(), size).last_turn == "t1"


def test_it_says_the_same_as_the_agent_s_own_reader(tmp_path):
    (tmp_path / "snapshot.tar").write_bytes(full())
    assert fed(full()) == inspect(tmp_path / "snapshot.tar").manifest


def test_an_archive_without_a_workspace_is_whole():
    assert [each.name for each in fed(archive()).parts] == ["agent.db"]


def test_zeros_that_fill_up_the_last_record_are_no_harm():
    assert fed(full() + bytes(8 * BLOCK))


told = entry("manifest.json", manifest((part("agent.db", b"x"),)).model_dump_json().encode())
END = bytes(2 * BLOCK)
BROKEN = {
    "nothing": (b"", "too early"),
    "no tar": (b"x" * 2000, "no tar"),
    "another database": (entry("other.db", b"x") + told + END, "does not begin with"),
    "a link as database": (entry("agent.db", kind=tarfile.SYMTYPE, link="x") + told + END, "does not begin with"),
    "no manifest": (entry("agent.db", b"x") + END, "ends without"),
    "no end": (entry("agent.db", b"x") + told, "too early"),
    "one block of an end": (entry("agent.db", b"x") + told + bytes(BLOCK), "too early"),
    "more after the end": (entry("agent.db", b"x") + told + END + b"x", "goes on"),
    "zeros without end": (entry("agent.db", b"x") + told + END + bytes(100_000), "goes on"),
    "a member after the manifest": (entry("agent.db", b"x") + told + entry("workspace/a") + END, "goes on"),
    "a manifest of nothing": (entry("agent.db", b"x") + entry("manifest.json", b"{}") + END, "fields are wrong"),
    "a manifest that is too big": (entry("agent.db", b"x") + entry("manifest.json", b" " * 1_000_001), "too big"),
    "another database than told": (entry("agent.db", b"y") + told + END, "agent.db is not what"),
    "an untold workspace": (entry("agent.db", b"x") + entry("workspace/a", b"z") + told + END, "tells of"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_not_whole_is_told(case):
    content, why = BROKEN[case]
    with pytest.raises(SnapshotBroken, match=why):
        fed(content)


def test_what_only_tells_of_changes_is_not_whole():
    said = json.loads(manifest((part("agent.db", b"x"),)).model_dump_json()) | {"base": "what a machine had"}
    with pytest.raises(SnapshotBroken):
        fed(entry("agent.db", b"x") + entry("manifest.json", json.dumps(said).encode()) + END)


def test_no_part_of_it_can_be_cut_off():
    content = full()
    for length in [*range(0, len(content) - 2 * BLOCK, 499), len(content) - 1, len(content) - BLOCK]:
        with pytest.raises(SnapshotBroken):
            fed(content[:length])


def test_a_changed_bit_is_noticed_or_changes_nothing():
    content, die = full(), random.Random(1)  # noqa: S311  the same bits each time
    whole = fed(content)
    for _ in range(300):
        where = die.randrange(len(content))
        changed = bytearray(content)
        changed[where] ^= 1 << die.randrange(8)
        try:
            # In what fills up a block, and in the header of the database, there is nothing that anybody reads.
            assert fed(bytes(changed)).parts == whole.parts
        except SnapshotBroken:
            continue
