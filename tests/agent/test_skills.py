"""Agent Skills: what is accepted is what the format's own reader accepts, and the owner's never break a turn."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from skills_ref import parser, validator
from skills_ref.errors import SkillError

from agent import own_files
from agent.guide import Guide
from agent.own_files import AGENTS_CHARS, MEMORY_CHARS
from agent.protocol import Role
from agent.sandbox.client import Output
from agent.sandbox.wire import Result
from agent.skills import BadSkill, builtin, read_skill
from agent.toolbox import RESULT_CHARS, ToolFailed
from tests.agent.conftest import NOTE, answer
from tests.fakes.libertai_sim import Call, Script, ToolCall

HEAD = "---\nname: cook\ndescription: Cooks. Use when hungry.\n---\nBoil water.\n"
BUILTIN = Path(own_files.__file__).parent / "skills_builtin"


def theirs(text: str) -> tuple[dict[str, Any], list[str]]:
    """The fields as the reference reads them, and what it finds wrong with them."""
    try:
        fields, _ = parser.parse_frontmatter(text)
    except SkillError as problem:
        return {}, [str(problem)]
    return fields, validator.validate_metadata(fields, Path("cook"))


# The format


@pytest.mark.parametrize("name", sorted(builtin()))
def test_our_own_skills_are_valid_and_can_be_loaded_whole(name):
    assert validator.validate(BUILTIN / name) == []
    skill, body = builtin()[name]
    assert skill.description == parser.read_properties(BUILTIN / name).description
    assert 500 < len(body) < RESULT_CHARS
    assert len(body.splitlines()) < 500


def test_our_own_skills_are_there():
    assert list(builtin()) == ["documents", "make-a-skill", "reminders", "research"]
    assert builtin()["documents"][0].needs == ("shell",)


GOOD = [
    HEAD,
    HEAD.replace("\n", "\r\n"),
    "---\nname: cook\ndescription: x\n---",
    "---\nname: cook\ndescription: x\n---\n\nA body\n---\nwith a line\n",
    "--- \n# a comment\nname: cook\n\ndescription:   x  \n---\n",
    '---\nname: "cook"\ndescription: "It says: \\"eat\\" # now"\n---\n',
    "---\nname: 'cook'\ndescription: 'It''s: fine'\n---\n",
    "---\nname: cook\ndescription: >\n  Two\n  lines.\n\n  And: more # of it\n---\n",
    "---\nname: cook\ndescription: >-\n  Two\n  lines.\nlicense: MIT\n---\n",
    "---\nname: cook\ndescription: |\n  - one\n  - two\n---\n",
    "---\nname: cook\ndescription: goes\n  on here\n---\n",
    "---\nname: cook\ndescription:\n  below\n---\n",
    "---\nname: cook\ndescription: http://a.example/ is 100% fine, isn't it?\n---\n",
    "---\nname: cook\ndescription: x\nlicense: MIT\ncompatibility: Linux\nallowed-tools: Bash(git:*) Read\n---\n",
    '---\nname: cook\ndescription: x\nmetadata:\n  author: Eve\n  version: "1.0"\n---\n',
    "---\nname: cook\ndescription: Кухня 🥬 für alle\n---\n",
]


@pytest.mark.parametrize("text", GOOD)
def test_good_skill_is_read_as_the_reference_reads_it(text):
    skill, _ = read_skill(text, "cook")
    fields, problems = theirs(text.replace("\r\n", "\n"))
    assert problems == []
    assert (skill.name, skill.description) == ("cook", " ".join(fields["description"].split()))


BAD = [
    ("", "must begin with a line of ---"),
    ("# Cook\n", "must begin with a line of ---"),
    ("\n" + HEAD, "must begin with a line of ---"),
    ("---\nname: cook\ndescription: x\n", "a second line of ---"),
    ("---\ndescription: x\n---\n", "name: must be 1 to 64"),
    ("---\nname: cook\n---\n", "description: must have 1 to 1024 characters"),
    ("---\nname: cook\ndescription:\n---\n", "description: must have"),
    (f"---\nname: cook\ndescription: {'x' * 1025}\n---\n", "description: must have"),
    (f"---\nname: cook\ndescription: x\ncompatibility: {'x' * 501}\n---\n", "compatibility: may have"),
    ("---\nname: Cook\ndescription: x\n---\n", "name: must be"),
    ("---\nname: a--b\ndescription: x\n---\n", "name: must be"),
    ("---\nname: -cook\ndescription: x\n---\n", "double quotes"),
    ("---\nname: cook_it\ndescription: x\n---\n", "name: must be"),
    (f"---\nname: {'a' * 65}\ndescription: x\n---\n", "name: must be"),
    ("---\nname: other\ndescription: x\n---\n", "its folder is called cook"),
    ("---\nname: cook\nname: cook\ndescription: x\n---\n", "stands there twice"),
    ("---\nname: cook\ndescription: x\nauthor: Eve\n---\n", "author: is no field"),
    ("---\nname: cook\ndescription: use: it\n---\n", "double quotes"),
    ("---\nname: cook\ndescription: [a, b]\n---\n", "double quotes"),
    ("---\nname: cook\ndescription: *anchor\n---\n", "double quotes"),
    ('---\nname: cook\ndescription: "half\n---\n', "quotes must end"),
    ('---\nname: cook\ndescription: "a"b"\n---\n', "quotes must end"),
    ("---\nname: cook\n\tdescription: x\n---\n", "no tabs"),
    ("---\nname: cook\ndescription: x\njust words\n---\n", "not a line of the form"),
    ("---\nname: cook\ndescription: >\n    deep\n  less\n---\n", "indented less"),
]


@pytest.mark.parametrize(("text", "why"), BAD)
def test_bad_skill_is_refused_with_what_to_change(text, why):
    with pytest.raises(BadSkill, match=why):
        read_skill(text, "cook")
    assert theirs(text)[1]


@pytest.mark.parametrize(
    "text",
    [
        "---\nname: cook\ndescription: a --- b\n---\n",
        "---\nname: cook\ndescription: x # and a comment\n---\n",
        "---\nname: cook\ndescription: x\nmetadata: words\n---\n",
        "---\nname: cook\ndescription: x\nmetadata:\n  a:\n    b: c\n---\n",
        "---\nname: cook\ndescription: x\nmetadata:\n  a: b\n    c: d\n---\n",
        "---\nname: cook\ndescription: x\nallowed-tools:\n  - Read\n---\n",
        '---\nname: cook\ndescription: "\\x41"\n---\n',
        "\ufeff" + HEAD,
    ],
)
def test_what_people_seldom_write_is_refused_and_not_misread(text):
    with pytest.raises(BadSkill):
        read_skill(text, "cook")


PIECES = st.sampled_from(
    [
        *">|-#{[!&*?,%@`~=<é🥬1:'\"\\x \n",
        "name",
        "description",
        "metadata",
        "cook",
        ": ",
        "  ",
        "\n  ",
        "\n    ",
        "\\n",
        ">-",
        " #",
    ]
)


@given(st.lists(PIECES, max_size=14).map("".join), st.sampled_from(["description: ", "description:", ""]))
def test_what_is_accepted_means_the_same_to_the_reference(words, key):
    text = f"---\nname: cook\n{key}{words}\n---\nBody\n"
    try:
        skill, _ = read_skill(text, "cook")
    except BadSkill:
        return
    fields, problems = theirs(text)
    assert problems == []
    assert skill.description == " ".join(fields["description"].split())


# What the model is shown


@pytest.fixture
def folder(tmp_path):
    """The workspace of an agent without a wall."""
    place = tmp_path / "data" / "workspace"
    place.mkdir(parents=True)
    return place


def add(folder: Path, path: str, text: str) -> None:
    place = folder / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


async def shown(client, libertai, **fields) -> Call:
    await client.events(**({"role": Role.OWNER} | fields))
    return (await libertai.calls())[-1]


async def load(client, libertai, name: str, **fields) -> str:
    """What the model is told when it loads a skill."""
    await libertai.script(Script(calls=[ToolCall(name="load_skill", arguments={"name": name})]), Script(text="Read."))
    assert answer(await client.events(**({"role": Role.OWNER} | fields))) == "Read."
    return str((await libertai.calls())[-1].messages[-1]["content"])


async def test_skills_are_told_of_only_to_who_can_use_them(agents, libertai):
    client = await agents(agent_web_url=libertai.url)
    assert "\n- research: Find out something on the web" in (await shown(client, libertai)).system
    assert "- documents: " not in (await shown(client, libertai)).system
    assert (await load(client, libertai, "research")).startswith("# Research\n")
    assert "There is no skill 'documents'. There are: " in await load(client, libertai, "documents")


async def test_agent_without_tools_hears_of_no_skills(agents, libertai, folder):
    add(folder, "AGENTS.md", "Always rhyme.")
    client = await agents(agent_tools=False)
    system = (await shown(client, libertai)).system
    assert "skill" not in system
    assert system.endswith("Always rhyme.")


async def test_own_skill_is_offered_and_loaded_with_the_names_of_its_files(agents, libertai, folder):
    add(folder, "skills/cook/SKILL.md", HEAD)
    add(folder, "skills/cook/recipes/leek.md", "Leek")
    client = await agents()
    assert "\n- cook: Cooks. Use when hungry." in (await shown(client, libertai)).system
    assert await load(client, libertai, "cook") == "Boil water.\n\n[Its other files:\nskills/cook/recipes/leek.md]"
    assert await load(client, libertai, "cook", role=Role.VISITOR, chat_id="v1") == "Boil water."


async def test_own_skill_takes_the_place_of_ours(agents, libertai, folder):
    add(folder, "skills/research/SKILL.md", HEAD.replace("cook", "research"))
    client = await agents(agent_web_url=libertai.url)
    system = (await shown(client, libertai)).system
    assert system.count("- research: ") == 1
    assert await load(client, libertai, "research") == "Boil water."


async def test_broken_skill_is_left_out_and_says_what_is_wrong_when_loaded(agents, libertai, folder, caplog):
    add(folder, "skills/cook/SKILL.md", HEAD.replace("name: cook", "name: Cook"))
    (folder / "skills/empty").mkdir()
    (folder / "skills/link").mkdir()
    (folder / "skills/link/SKILL.md").symlink_to(folder / "skills/cook/SKILL.md")
    client = await agents()
    assert "cook" not in (await shown(client, libertai)).system.replace("You cook.", "")
    assert "skills/cook/SKILL.md is not valid. name: must be 1 to 64" in await load(client, libertai, "cook")
    for name in ("empty", "link"):
        assert "SKILL.md: is missing; it must be a file, no link" in await load(client, libertai, name)
    assert "There is no skill 'cook'" in await load(client, libertai, "cook", role=Role.VISITOR, chat_id="v1")
    assert "There is no skill '../cook'" in await load(client, libertai, "../cook")
    assert caplog.text.count("skill left out") == 3
    add(folder, "skills/cook/SKILL.md", HEAD)
    assert await load(client, libertai, "cook") == "Boil water."


async def test_instructions_are_for_all_and_memory_for_the_owner_alone(agents, libertai, folder):
    add(folder, "AGENTS.md", "Always rhyme.\n")
    add(folder, "MEMORY.md", "They like leeks.\n")
    client = await agents()
    owned, visited = await shown(client, libertai), await shown(client, libertai, role=Role.VISITOR, chat_id="v1")
    for call in (owned, visited):
        assert "Your owner's standing instructions (AGENTS.md):\n\nAlways rhyme." in call.system
        assert call.system.index("You cook.") < call.system.index("Always rhyme.")
    assert "Your MEMORY.md:\nThey like leeks." in owned.messages[-1]["content"].partition(NOTE)[2]
    assert "leeks" not in json.dumps(visited.body)


async def test_too_long_files_are_cut_and_say_so(agents, libertai, folder):
    add(folder, "AGENTS.md", "a" * AGENTS_CHARS + "LOST")
    add(folder, "MEMORY.md", "m" * MEMORY_CHARS + "LOST")
    call = await shown(await agents(), libertai)
    assert "LOST" not in json.dumps(call.body)
    assert f"a\n[… only the first {AGENTS_CHARS} characters of AGENTS.md are shown …]" in call.system
    assert f"m\n[… only the first {MEMORY_CHARS} characters of MEMORY.md are shown …]" in call.messages[-1]["content"]


# What is sent stays the same


@pytest.fixture
def clock(monkeypatch):
    """The agent's calendar, moved by hand."""

    class Clock(datetime):
        now_ = datetime(2026, 11, 21, 9, tzinfo=UTC)

        @classmethod
        def now(cls, tz=None):
            return cls.now_

    monkeypatch.setattr("agent.equip.datetime", Clock)
    return Clock


async def test_system_prompt_changes_only_with_the_files_it_is_made_of(agents, libertai, folder, clock):
    client = await agents(agent_web_url=libertai.url)
    changes = [
        None,
        ("MEMORY.md", "They like leeks."),
        ("AGENTS.md", "Always rhyme."),
        None,
        ("notes.txt", "x"),
        ("skills/cook/SKILL.md", HEAD),
        ("skills/cook/more.md", "x"),
        ("skills/cook/SKILL.md", HEAD + "Salt it."),
        ("AGENTS.md", "Never rhyme."),
    ]
    calls = []
    for change in changes:
        clock.now_ += timedelta(days=1, hours=5)
        if change:
            add(folder, *change)
        calls.append(await shown(client, libertai))
        calls.append(await shown(client, libertai, message="again"))
    systems = [call.system for call in calls]
    assert [number // 2 for number in range(1, 18) if systems[number] != systems[number - 1]] == [2, 5, 8]
    assert len({json.dumps(call.body["tools"]) for call in calls}) == 1


# Behind the wall


class Wall:
    """Answers as the program behind the wall does; `changes` says when it is to be asked again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.changes = 0
        self.asked = 0
        self.broken: Exception | None = None
        self.code = 0

    async def run(self, request, stdin=b"", limit=0, *, reads_only=False):
        assert reads_only
        self.asked += 1
        if self.broken:
            raise self.broken
        *_, script = request.command[:5]
        assert script == Path(own_files.__file__).read_text()
        names = request.command[5:]
        found = own_files.skill(self.folder, *names) if names else own_files.survey(self.folder)
        return Output(json.dumps(found).encode(), truncated=False, result=Result("exit", self.code, 0))


async def test_files_behind_the_wall_are_read_again_only_after_a_call_that_may_have_changed_them(folder):
    wall: Any = Wall(folder)
    guide = Guide(wall)
    add(folder, "AGENTS.md", "one")
    for _ in range(3):
        assert (await guide.read()).agents == "one"
    assert wall.asked == 1
    add(folder, "AGENTS.md", "two")
    wall.changes += 1
    assert (await guide.read()).agents == "two"
    assert wall.asked == 2


async def test_wall_that_fails_keeps_what_was_known_and_is_asked_again(folder):
    wall: Any = Wall(folder)
    guide = Guide(wall)
    add(folder, "AGENTS.md", "one")
    add(folder, "skills/cook/SKILL.md", HEAD)
    known = await guide.read()
    add(folder, "AGENTS.md", "two")
    wall.changes += 1
    wall.broken = ConnectionRefusedError("no launcher")
    assert await guide.read() == known
    with pytest.raises(ToolFailed, match="cannot be used now"):
        await guide.skill("cook", lambda _: True, owner=True)
    wall.broken, wall.code = None, 1
    assert await guide.read() == known
    wall.code = 0
    assert (await guide.read()).agents == "two"
    assert await guide.skill("cook", lambda _: True, owner=True) == "Boil water."
