import os
import subprocess
import sys

import pytest
from cryptography.fernet import Fernet

from bot.cli import main
from bot.errors import BadSettings
from bot.store.folder import sole_owner


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


def serve_on(url, folder):
    return run(
        "serve",
        folder=folder,
        TELEGRAM_BOT_TOKEN="4242:abc",
        BOT_ENCRYPTION_KEY=Fernet.generate_key().decode(),
        DATABASE_URL=url,
    )


def test_serving_on_a_database_file_that_cannot_be_opened_says_so_and_exits_78(tmp_path):
    ended = serve_on(f"sqlite:///{tmp_path}/no/such/folder/baal.sqlite", tmp_path)

    assert ended.returncode == 78
    assert ended.stderr == (
        "DATABASE_URL: unable to open database file. "
        "It is in DATA_DIR unless DATABASE_URL says otherwise: let this user write there.\n"
    )


@pytest.mark.postgres
def test_serving_with_a_wrong_password_says_so_without_it_and_exits_78(tmp_path, postgres):
    ended = serve_on(postgres.url("postgres", password="wr0ng", scheme="postgres"), tmp_path)

    assert ended.returncode == 78
    assert len(ended.stderr.splitlines()) == 1
    assert ended.stderr.startswith("DATABASE_URL: ")
    assert "Correct user and password in it" in ended.stderr
    assert "wr0ng" not in ended.stderr


def test_a_data_folder_has_one_owner_at_a_time(tmp_path):
    with sole_owner(tmp_path), pytest.raises(BadSettings), sole_owner(tmp_path):
        pass
    with sole_owner(tmp_path):
        pass


def test_bots_of_one_server_share_a_data_folder_and_no_others(tmp_path):
    ours, theirs = "postgresql://baal:secret@db/ours", "postgresql://baal:secret@db/theirs"
    with sole_owner(tmp_path, ours), sole_owner(tmp_path, ours.replace("secret", "s2")):
        for other in (theirs, "sqlite:///baal.sqlite"):
            with pytest.raises(BadSettings), sole_owner(tmp_path, other):
                pass
        assert "secret" not in (tmp_path / "lock").read_text()
    with sole_owner(tmp_path), pytest.raises(BadSettings), sole_owner(tmp_path, ours):
        pass
    with sole_owner(tmp_path, theirs):
        pass


def test_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "serve" in capsys.readouterr().out
