"""The program that touches files behind the wall: what it does, and what it cannot be talked into."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "agent/tools/in_workspace.py"
# As the agent starts it, but for its folder.
WRAPPER = (
    "import sys; text, top = sys.argv[1:]; exec(text.replace('\"/workspace\"', repr(top)), {'__name__': '__main__'})"
)
SECONDS = 20


class Workspace:
    """Runs operations on a folder as the agent does."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.folder = "."

    def run(self, operation: str, **arguments) -> tuple[int, str]:
        asked = {"operation": operation, "folder": self.folder, **arguments}
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", WRAPPER, SCRIPT.read_text(), str(self.top)],
            input=json.dumps(asked).encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SECONDS,
            env={"LC_ALL": "C", "PATH": os.environ["PATH"]},
            check=False,
        )
        text = done.stdout.decode()
        assert "Traceback" not in text
        return done.returncode, text

    def done(self, operation: str, **arguments) -> str:
        code, text = self.run(operation, **arguments)
        assert code == 0, text
        return text

    def refused(self, operation: str, **arguments) -> str:
        code, text = self.run(operation, **arguments)
        assert code == 1, text
        assert text.strip()
        return text

    def read(self, path: str, first: int = 1, count: int = 500) -> str:
        return self.done("read", path=path, first=first, count=count)

    def edit(self, path: str, old: str, new: str, *, everywhere: bool = False) -> str:
        return self.done("edit", path=path, old=old, new=new, everywhere=everywhere)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "workspace").mkdir()
    (tmp_path / "secret.txt").write_text("secret\n")
    return Workspace(tmp_path / "workspace")


def names(folder: Path) -> list[str]:
    return sorted(place.name for place in folder.iterdir())


OPERATIONS: dict[str, dict[str, Any]] = {
    "read": {"first": 1, "count": 9},
    "write": {"text": "x"},
    "edit": {"old": "secret", "new": "x", "everywhere": False},
    "list": {},
    "search": {"pattern": "secret", "names": "*"},
}


# The jail


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize(
    "path", ["../secret.txt", "a/../../secret.txt", "/../secret.txt", "..", "link.txt", "folder/secret.txt", "loop"]
)
def test_nothing_outside_of_the_folder_is_reached(files, operation, path):
    (files.top / "link.txt").symlink_to("../secret.txt")
    (files.top / "folder").symlink_to("..")
    (files.top / "loop").symlink_to("loop")
    text = files.refused(operation, path=path, **OPERATIONS[operation])
    assert "secret\n" not in text
    assert path == "loop" or "outside of your folder" in text
    assert (files.top.parent / "secret.txt").read_text() == "secret\n"
    assert names(files.top.parent) == ["secret.txt", "workspace"]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_visitor_stays_in_a_folder_of_their_own(files, operation):
    (files.top / "plan.txt").write_text("secret plan")
    (files.top / "visitors/other").mkdir(parents=True)
    (files.top / "visitors/other/own.txt").write_text("secret too")
    files.folder = "visitors/me"
    for path in ("../../plan.txt", "../other/own.txt", "..", "../me2"):
        assert "outside of your folder" in files.refused(operation, path=path, **OPERATIONS[operation])
    assert "secret" not in files.run(operation, path="/workspace/plan.txt", **OPERATIONS[operation])[1]
    assert (files.top / "plan.txt").read_text() == "secret plan"


def test_absolute_path_is_taken_as_one_of_the_folder(files):
    files.done("write", path=f"{files.top}/a/b.txt", text="x")
    files.done("write", path="/c.txt", text="y")
    assert (files.top / "a/b.txt").read_text() == "x"
    assert (files.top / "c.txt").read_text() == "y"


def test_links_are_neither_followed_nor_searched(files):
    (files.top / "out").symlink_to("..")
    (files.top / "link.txt").symlink_to("../secret.txt")
    (files.top / "self").symlink_to(".")
    assert {line.split("\t")[0] for line in files.done("list", path=".").splitlines()} == {"out", "link.txt", "self"}
    assert files.done("search", pattern="secret", path=".", names="*") == "Nothing was found."


def test_writing_follows_no_link_that_waits_under_its_temporary_name(files):
    (files.top / ".a.txt.new").symlink_to("../secret.txt")
    files.done("write", path="a.txt", text="x")
    assert (files.top.parent / "secret.txt").read_text() == "secret\n"
    assert (files.top / "a.txt").read_text() == "x"


def test_link_inside_of_the_folder_is_written_through(files):
    (files.top / "real.txt").write_text("old")
    (files.top / "link.txt").symlink_to("real.txt")
    files.edit("link.txt", "old", "new")
    assert (files.top / "link.txt").is_symlink()
    assert (files.top / "real.txt").read_text() == "new"


# Reading


def test_lines_are_read_with_their_numbers_and_it_says_where_to_go_on(files):
    (files.top / "a.txt").write_text("".join(f"line {number}  \n" for number in range(1, 11)))
    assert files.read("a.txt", 3, 2) == "3\tline 3  \n4\tline 4  \n[… 6 more lines; read on from line 5 …]"
    assert files.read("a.txt", 10) == "10\tline 10  "
    assert files.refused("read", path="a.txt", first=11, count=1) == "a.txt has only 10 lines.\n"


def test_empty_file_is_told_to_be_empty(files):
    (files.top / "a.txt").touch()
    assert files.read("a.txt") == "a.txt is empty."


@pytest.mark.parametrize("operation", ["read", "edit"])
def test_what_is_no_text_is_not_read(files, operation):
    (files.top / "a.bin").write_bytes(b"\x7fELF\0\0\1")
    (files.top / "folder").mkdir()
    os.mkfifo(files.top / "pipe")
    (files.top / "device").symlink_to("/dev/zero")
    arguments = OPERATIONS[operation]
    assert "a.bin is not text (7 bytes)" in files.refused(operation, path="a.bin", **arguments)
    assert "folder is a folder; list_files" in files.refused(operation, path="folder", **arguments)
    assert "pipe is not a file." in files.refused(operation, path="pipe", **arguments)
    assert "outside" in files.refused(operation, path="device", **arguments)


@pytest.mark.parametrize("operation", ["read", "edit", "list"])
def test_what_is_not_there_is_said_by_the_name_that_was_given(files, operation):
    files.folder = "visitors/me"
    text = files.refused(operation, path="soup/no.txt", **OPERATIONS[operation])
    assert text.startswith("soup/no.txt: there is no such f")
    assert str(files.top) not in text


def test_huge_file_is_read_in_little_memory(files):
    with (files.top / "a.txt").open("wb") as file:
        file.write(b"a" * 50_000_000 + b"\nsecond\n")
    text = files.read("a.txt")
    assert len(text) < 5_000
    assert text.endswith("2\tsecond")
    with (files.top / "sparse").open("wb") as file:
        file.truncate(2 * 1024**3)
    assert "not text" in files.refused("read", path="sparse", first=1, count=1)
    found = files.done("search", pattern="a", path=".", names="*")
    assert found == "[files of more than 5000000 bytes were not searched: 2]"
    assert "too big" in files.refused("edit", path="a.txt", old="a", new="b", everywhere=True)


# Names


NAMES = [
    "a b.txt",
    "quo\"te's.txt",
    "new\nline.txt",
    "-rf",
    "$HOME;`x`",
    "суп.txt",
    "🍲.txt",
    "x" * 255,
    "🍲" * 63,
    ".env",
]


@pytest.mark.parametrize("name", NAMES)
def test_file_of_any_name_is_written_read_changed_and_listed(files, name):
    files.done("write", path=name, text="soup\n")
    assert files.read(name) == "1\tsoup"
    files.edit(name, "soup", "stew")
    assert (files.top / name).read_text() == "stew\n"
    assert files.done("list", path=".").startswith(name.replace("\n", "\\n"))
    assert "1: stew" in files.done("search", pattern="stew", path=".", names="*")
    assert names(files.top) == [name]


def test_name_that_is_no_unicode_breaks_nothing(files):
    (Path(os.fsdecode(bytes(files.top) + b"/\xff\xfe.txt"))).write_text("soup\n")
    assert files.done("list", path=".").endswith(".txt\t5")
    assert "1: soup" in files.done("search", pattern="soup", path=".", names="*")


@pytest.mark.parametrize("path", ["x" * 256, "x/" * 1_500, "x/" * 3_000, "a\0b", "\ud83d"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_impossible_name_is_refused_and_leaves_nothing(files, operation, path):
    files.refused(operation, path=path, **OPERATIONS[operation])
    assert [name for name in names(files.top) if name != "x"] == []


@pytest.mark.parametrize("path", [".", "", "folder", "file.txt/below"])
def test_what_cannot_be_written_leaves_nothing_behind(files, path):
    (files.top / "folder").mkdir()
    (files.top / "file.txt").write_text("old")
    files.refused("write", path=path, text="x")
    assert names(files.top) == ["file.txt", "folder"]
    assert names(files.top.parent) == ["secret.txt", "workspace"]
    assert names(files.top / "folder") == []


# Writing and editing


def test_folders_are_made_as_needed_and_what_was_there_is_replaced(files):
    assert files.done("write", path="a/b/c.txt", text="żur") == "Wrote 4 bytes to a/b/c.txt."
    files.done("write", path="a/b/c.txt", text="")
    assert (files.top / "a/b/c.txt").read_text() == ""
    assert names(files.top / "a/b") == ["c.txt"]


def test_edited_script_can_still_be_run(files):
    (files.top / "run.sh").write_text("echo old\n")
    (files.top / "run.sh").chmod(0o755)
    files.edit("run.sh", "old", "new")
    assert (files.top / "run.sh").stat().st_mode & 0o777 == 0o755


def test_one_passage_is_replaced_or_all_when_told_so(files):
    (files.top / "a.txt").write_text("one two one\n")
    assert "holds that passage 2 times" in files.refused("edit", path="a.txt", old="one", new="1", everywhere=False)
    assert files.edit("a.txt", "two", "2") == "Replaced 1 passage in a.txt."
    assert files.edit("a.txt", "one", "1", everywhere=True) == "Replaced 2 passages in a.txt."
    assert (files.top / "a.txt").read_text() == "1 2 1\n"


@pytest.mark.parametrize("old", ["three", "", "ONE", "one\n\n"])
def test_passage_that_is_not_there_changes_nothing(files, old):
    (files.top / "a.txt").write_text("one two\n")
    assert "does not hold that passage" in files.refused("edit", path="a.txt", old=old, new="x", everywhere=True)
    assert (files.top / "a.txt").read_text() == "one two\n"


@pytest.mark.parametrize(
    ("before", "old", "new", "after"),
    [
        (b"a\r\nb\r\nc\r\n", "a\nb", "a\nx", b"a\r\nx\r\nc\r\n"),
        (b"a\r\nb\r\n", "b", "x\ny", b"a\r\nx\r\ny\r\n"),
        (b"a\r\nb\nc\n", "c", "x", b"a\r\nb\nx\n"),
        (b"caf\xe9 one\n", "one", "two", b"caf\xe9 two\n"),
        (b"\xef\xbb\xbfone\n", "one", "two", b"\xef\xbb\xbftwo\n"),
        ("a\u2028one\x0cb".encode(), "one", "two", "a\u2028two\x0cb".encode()),
        (b"one", "one", "two", b"two"),
    ],
)
def test_everything_around_an_edit_stays_to_the_byte(files, before, old, new, after):
    (files.top / "a.txt").write_bytes(before)
    files.edit("a.txt", old, new)
    assert (files.top / "a.txt").read_bytes() == after


# Listing and searching


def test_what_is_nearest_is_listed_first_with_sizes_and_hidden_folders_stay_closed(files):
    for name in ("b/c/deep.txt", "b/near.txt", ".git/config", "a.txt"):
        (files.top / name).parent.mkdir(parents=True, exist_ok=True)
        (files.top / name).write_text("12345")
    lines = files.done("list", path=".").splitlines()
    assert lines == [".git/", "a.txt\t5", "b/", "b/c/", "b/near.txt\t5", "b/c/deep.txt\t5"]
    assert files.done("list", path="b/c") == "b/c/deep.txt\t5"
    assert files.done("list", path=".git") == ".git/config\t5"


def test_empty_folder_is_told_to_be_empty_and_a_file_is_no_folder(files):
    assert files.done("list", path=".") == "Nothing is there yet."
    (files.top / "a.txt").touch()
    assert "no such folder" in files.refused("list", path="a.txt")


def test_deep_and_crowded_folders_are_listed_up_to_a_limit(files):
    deep = files.top
    for _ in range(200):
        deep = deep / "deeper"
    deep.mkdir(parents=True)
    for number in range(1_000):
        (files.top / f"{number}.txt").touch()
    lines = files.done("list", path=".").splitlines()
    assert len(lines) == 501
    assert lines[-1].startswith("[… there is more;")
    (deep / "found.txt").write_text("soup")
    assert "found.txt:1: soup" in files.done("search", pattern="s.up", path=".", names="f*.txt")


def test_lines_are_found_by_their_number_as_read_counts_them(files):
    (files.top / "a.txt").write_text("one\u2028still one\x0cone\ntwo soup\n")
    assert files.done("search", pattern="soup", path=".", names="*.txt") == "a.txt:2: two soup"
    assert files.read("a.txt", 2) == "2\ttwo soup"


def test_matches_are_limited(files):
    (files.top / "a.txt").write_text("soup\n" * 1_000)
    lines = files.done("search", pattern="soup", path=".", names="*").splitlines()
    assert len(lines) == 201
    assert lines[-1].startswith("[… there is more;")


def test_one_file_can_be_searched_and_a_missing_one_is_told(files):
    (files.top / "a.txt").write_text("soup\n")
    (files.top / "b.txt").write_text("soup\n")
    assert files.done("search", pattern="soup", path="a.txt", names="*") == "a.txt:1: soup"
    assert "no.txt: there is no such" in files.refused("search", pattern="soup", path="no.txt", names="*")


def test_pattern_that_is_none_is_told(files):
    assert "is not a regular expression" in files.refused("search", pattern="(", path=".", names="*")


def test_full_disk_or_quota_is_told(files):
    (files.top / "a.txt").write_text("old")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9)); "
    asked = json.dumps({"operation": "write", "folder": ".", "path": "a.txt", "text": "x" * 100}).encode()
    done = subprocess.run(
        [sys.executable, "-I", "-c", limit + WRAPPER, SCRIPT.read_text(), str(files.top)],
        input=asked,
        capture_output=True,
        check=False,
        timeout=SECONDS,
    )
    assert done.returncode == 1
    assert b"File too large" in done.stdout
    assert (files.top / "a.txt").read_text() == "old"
    assert names(files.top) == ["a.txt"]


# Big workspaces, and files as bytes


def test_hundred_thousand_files_are_listed_searched_and_read(files):
    (files.top / "many").mkdir()
    for number in range(100_000):
        os.close(os.open(files.top / f"many/{number:06}.txt", os.O_WRONLY | os.O_CREAT))
    (files.top / "many/needle.md").write_text("soup\n")
    lines = files.done("list", path=".").splitlines()
    assert (len(lines), lines[-1]) == (501, "[… there is more; list a folder below . …]")
    assert files.done("search", pattern="soup", path=".", names="*") == "many/needle.md:1: soup"
    assert files.read("many/needle.md") == "1\tsoup"
    assert json.loads(files.done("stat", path="many/needle.md"))["size"] == 5


def test_huge_file_is_measured_and_read_in_pieces(files):
    with (files.top / "sparse").open("wb") as file:
        file.truncate(2 * 1024**3)
        file.seek(2 * 1024**3 - 4)
        file.write(b"soup")
    assert json.loads(files.done("stat", path="sparse")) == {"path": "sparse", "size": 2 * 1024**3}
    head, _, data = files.done("piece", path="sparse", start=2 * 1024**3 - 4, count=100, version="").partition("\n")
    assert (json.loads(head)["size"], data) == (2 * 1024**3, "soup")


def test_piece_of_a_file_that_has_changed_is_refused(files):
    (files.top / "a.bin").write_bytes(b"one two")
    head = files.done("piece", path="a.bin", start=0, count=3, version="").partition("\n")[0]
    version = json.loads(head)["version"]
    assert files.done("piece", path="a.bin", start=4, count=9, version=version).endswith("\ntwo")
    (files.top / "a.bin").write_bytes(b"one two!")
    assert "has changed" in files.refused("piece", path="a.bin", start=4, count=9, version=version)


@pytest.mark.parametrize("operation", ["stat", "piece"])
def test_bytes_are_read_of_files_within_the_folder_only(files, operation):
    arguments = {"start": 0, "count": 9, "version": ""} if operation == "piece" else {}
    (files.top / "loop").symlink_to("loop")
    (files.top / "round").symlink_to("trip")
    (files.top / "trip").symlink_to("round")
    (files.top / "out").symlink_to("../secret.txt")
    (files.top / "null").symlink_to("/dev/null")
    (files.top / "folder").mkdir()
    os.mkfifo(files.top / "pipe")
    for path in ("../secret.txt", "loop", "round", "out", "null", "folder", "pipe", "no.txt", "x" * 300, "a\0b"):
        assert "secret\n" not in files.refused(operation, path=path, **arguments)


def test_file_is_removed_and_what_else_has_come_to_lie_there_is_left(files):
    (files.top / "sent").mkdir()
    (files.top / "kept.txt").write_text("x")
    (files.top / "sent/a.png").write_text("x")
    (files.top / "sent/link").symlink_to(files.top / "kept.txt")
    (files.top / "sent/folder").mkdir()
    for path in ("sent/a.png", "sent/a.png", "sent/link", "sent/folder", "kept.txt/below", "gone/b.png"):
        files.done("remove", path=path)
    assert [each.name for each in (files.top / "sent").iterdir()] == ["folder"]
    assert (files.top / "kept.txt").read_text() == "x"
    files.refused("remove", path="../outside/a.png")
