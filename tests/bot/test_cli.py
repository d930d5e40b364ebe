import os
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from bot.app import sole_owner
from bot.cli import main
from bot.errors import BadSettings


def run(*arguments, folder, **environment):
    basics = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "bot", *arguments],
        cwd=folder,
        env=basics | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_new_key_is_one_that_encrypts(capsys):
    main(["new-key"])

    Fernet(capsys.readouterr().out.strip())


def test_serving_without_settings_says_which_and_exits_78(tmp_path):
    ended = run("serve", folder=tmp_path)

    assert ended.returncode == 78
    assert ended.stderr.splitlines() == [
        "TELEGRAM_BOT_TOKEN is not set. See .env.example.",
        "BOT_ENCRYPTION_KEY is not set. See .env.example.",
    ]


def test_serving_on_a_data_folder_in_use_says_so_and_exits_78(tmp_path):
    with sole_owner(tmp_path / "data"):
        ended = run(
            "serve",
            folder=tmp_path,
            TELEGRAM_BOT_TOKEN="4242:abc",
            BOT_ENCRYPTION_KEY=Fernet.generate_key().decode(),
            DATA_DIR=str(tmp_path / "data"),
        )

    assert ended.returncode == 78
    assert "another bot already runs on DATA_DIR" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_data_folder_has_one_owner_at_a_time(tmp_path):
    with sole_owner(tmp_path), pytest.raises(BadSettings), sole_owner(tmp_path):
        pass
    with sole_owner(tmp_path):
        pass


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "serve" in capsys.readouterr().out
