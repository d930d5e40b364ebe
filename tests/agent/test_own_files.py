"""Whatever lies where an owner's file should be: it is read, cut or passed over, and nothing waits for it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agent import own_files
from agent.own_files import look, read_text, skill, skill_names, survey


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "workspace"
    place.mkdir()
    return place


def add(folder: Path, path: str, text: str = "x") -> Path:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return place


def a_link(place: Path) -> None:
    place.symlink_to("/etc/passwd")


def a_link_to_itself(place: Path) -> None:
    place.symlink_to(place.name)


def a_second_name(place: Path) -> None:
    os.link(add(place.parent.parent, "elsewhere"), place)


def a_folder(place: Path) -> None:
    place.mkdir()


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


def a_device(place: Path) -> None:
    if os.geteuid():
        pytest.skip("only root can make a device")
    os.mknod(place, 0o020666, os.makedev(1, 5))  # /dev/zero


@pytest.mark.parametrize("thing", [a_link, a_link_to_itself, a_second_name, a_folder, a_pipe, a_device])
def test_what_is_no_plain_file_of_its_own_counts_as_missing(folder, thing):
    thing(folder / "AGENTS.md")
    assert read_text(folder, "AGENTS.md", 100) is None


def test_folder_that_is_a_link_is_not_followed(folder, tmp_path):
    add(tmp_path, "outside/skills/evil/SKILL.md")
    (folder / "skills").symlink_to(tmp_path / "outside/skills")
    assert skill_names(folder) == []
    assert read_text(folder, "skills/evil/SKILL.md", 100) is None
    (folder / "skills").unlink()
    (folder / "skills").mkdir()
    (folder / "skills/evil").symlink_to(tmp_path / "outside/skills/evil")
    assert skill_names(folder) == []
    assert read_text(folder, "skills/evil/SKILL.md", 100) is None
    assert look(folder, "skills/evil/SKILL.md") is None


@pytest.mark.parametrize("path", ["AGENTS.md", "skills/none/SKILL.md", "x" * 300])
def test_missing_file_is_none(folder, path):
    assert read_text(folder, path, 100) is None
    assert look(folder, path) is None
    assert read_text(folder / "no such folder", path, 100) is None


def test_huge_file_costs_no_more_than_its_beginning(folder):
    place = add(folder, "AGENTS.md", "first words")
    os.truncate(place, 1 << 41)
    text = read_text(folder, "AGENTS.md", 1_000)
    assert text is not None
    assert len(text) == 1_001
    assert text.startswith("first words")


def test_bytes_that_are_no_text_are_replaced(folder):
    (folder / "AGENTS.md").write_bytes(b"caf\xe9 \xff")
    assert read_text(folder, "AGENTS.md", 100) == "caf\ufffd \ufffd"


def test_limit_counts_characters_and_tells_that_there_is_more(folder):
    add(folder, "AGENTS.md", "🥬" * 12)
    assert read_text(folder, "AGENTS.md", 12) == "🥬" * 12
    assert read_text(folder, "AGENTS.md", 10) == "🥬" * 11


def test_look_tells_of_every_change(folder):
    place = add(folder, "AGENTS.md", "one")
    seen = [look(folder, "AGENTS.md")]
    place.write_text("three")
    seen.append(look(folder, "AGENTS.md"))
    os.utime(place, ns=(5, 5))
    seen.append(look(folder, "AGENTS.md"))
    add(folder, "new", "three").replace(place)
    seen.append(look(folder, "AGENTS.md"))
    assert len(set(seen)) == 4


def test_skills_are_listed_in_order_and_only_so_many(folder):
    for number in range(own_files.MAX_SKILLS + 5):
        add(folder, f"skills/s{number:03}/SKILL.md")
    add(folder, "skills/.hidden/SKILL.md")
    add(folder, "skills/README.md")
    assert skill_names(folder) == [f"s{number:03}" for number in range(own_files.MAX_SKILLS)]


def test_skill_tells_its_other_files(folder):
    for path in ("SKILL.md", "scripts/run.py", "table.csv", ".git/config", "a\nb"):
        add(folder, f"skills/cook/{path}")
    (folder / "skills/cook/loop").symlink_to(".")
    assert skill(folder, "cook") == {"text": "x", "files": ["a?b", "scripts/run.py", "table.csv"]}
    for number in range(300):
        add(folder, f"skills/cook/many/{number}")
    files = skill(folder, "cook")["files"]
    assert isinstance(files, list)
    assert len(files) == own_files.MAX_FILES


def test_same_is_found_by_the_program_behind_the_wall(folder):
    add(folder, "AGENTS.md", "Grüße")
    add(folder, "skills/cook/SKILL.md", "how")
    Path(os.fsdecode(os.fsencode(folder) + b"/skills/\xff")).mkdir()  # a name that is not Unicode
    program = Path(own_files.__file__).read_text().replace('Path("/workspace")', f"Path({str(folder)!r})")

    def run(*words: str) -> object:
        ended = subprocess.run([sys.executable, "-I", "-S", "-c", program, *words], capture_output=True, check=True)
        return json.loads(ended.stdout)

    assert run() == survey(folder) == {"agents": "Grüße", "memory": None, "skills": {"?": None, "cook": "how"}}
    assert run("cook") == skill(folder, "cook") == {"text": "how", "files": []}
