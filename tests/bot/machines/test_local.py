"""What only the local provider promises: its folders."""

import stat
from pathlib import Path

import pytest

from bot.machines.local import LocalProvider
from bot.machines.process import ProcessEngine

MACHINE = "m-0123456789abcdef"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "machines"


@pytest.fixture
def provider(folder):
    return LocalProvider(folder, ProcessEngine())


async def test_a_machine_is_a_folder_for_this_user_only(provider, folder):
    await provider.rent(MACHINE)

    place = await provider.reach(MACHINE)

    assert Path(place.path) == folder / MACHINE
    assert stat.S_IMODE((folder / MACHINE).stat().st_mode) == 0o700


async def test_what_is_no_machine_is_neither_listed_nor_touched(provider, folder):
    await provider.rent(MACHINE)
    (folder / "notes").mkdir()
    (folder / "m-short").touch()

    assert await provider.listed() == [MACHINE]
    await provider.give_back(MACHINE)

    assert sorted(path.name for path in folder.iterdir()) == ["m-short", "notes"]


async def test_nothing_outside_is_removed_when_a_machine_holds_a_link_to_it(provider, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    await provider.rent(MACHINE)
    (folder / MACHINE / "data").symlink_to(outside)

    await provider.give_back(MACHINE)

    assert (outside / "kept").read_text() == "mine"
    assert not (folder / MACHINE).exists()


async def test_nothing_outside_is_removed_when_the_machine_itself_is_a_link(provider, folder, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("mine")
    folder.mkdir()
    (folder / MACHINE).symlink_to(outside)

    with pytest.raises(OSError, match=MACHINE):
        await provider.give_back(MACHINE)

    assert (outside / "kept").read_text() == "mine"


async def test_places_are_absolute_when_the_folder_is_given_relatively(provider, folder, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    relative = LocalProvider(Path("machines"), ProcessEngine())
    await relative.rent(MACHINE)

    assert (await relative.reach(MACHINE)).path == str(folder / MACHINE)
