"""What the documents promise is what there is."""

import re
from pathlib import Path

from bot.settings import Settings
from bot.telegram.commands import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
BAKED = {"BOT_VERSION", "BOT_REVISION"}
"""Set by the image, not by an operator."""
HIDDEN = {"cancel", "exit"}
"""Said where they are needed; another word for /manage."""
COMPOSE = dict(re.findall(r"\$\{([A-Z_]+)(?::-([^}]*))?", (ROOT / "compose.yaml").read_text()))
COMPOSE["COMPOSE_PROFILES"] = "postgres"  # the one there is
"""What compose.yaml reads from .env → the default."""


def test_the_example_names_every_setting_and_no_other():
    named = re.findall(r"^(?:# )?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE)

    settings = {name.upper() for name in Settings.model_fields} - BAKED
    assert sorted(named) == sorted(settings | COMPOSE.keys())


def test_the_defaults_in_the_example_are_the_defaults():
    said = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
    # Their defaults are made of other settings.
    made = {"AGENT_TOOLS", "DATABASE_URL", "LLM_BASE_URL", "SSH_KEY_FILE"}

    fields = {name.upper(): field.default for name, field in Settings.model_fields.items() if not field.is_required()}
    defaults = COMPOSE | fields
    shown = {
        name: ",".join(value) if isinstance(value, tuple) else str(value)
        for name, value in defaults.items()
        if name in said and name not in made
    }

    assert shown == {name: value for name, value in said.items() if name not in made}


def test_the_readme_lists_every_command_and_no_other():
    table = (ROOT / "README.md").read_text().partition("## For users")[2].partition("## For developers")[0]

    assert set(re.findall(r"`/([a-z]+)", table)) == set(COMMANDS) - HIDDEN


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 200


def test_every_make_target_named_in_the_readme_exists_and_is_in_the_help():
    makefile = (ROOT / "Makefile").read_text()
    named = set(re.findall(r"(?:^|`)make ([a-z0-9-]+)", (ROOT / "README.md").read_text(), re.MULTILINE))

    assert named <= set(re.findall(r"^([a-z0-9-]+):.*## ", makefile, re.MULTILINE))


def test_nothing_committed_names_a_package_registry():
    files = [ROOT / "pyproject.toml", ROOT / "Makefile", *(ROOT / "requirements").iterdir(), ROOT / ".ci" / "run"]

    assert not [path.name for path in files if "://" in path.read_text()]
