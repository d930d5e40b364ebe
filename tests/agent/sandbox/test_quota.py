import os

import pytest

from agent.sandbox.quota import Quota, TooDeep, Watch, measure

MB = 1 << 20


def test_files_folders_and_links_are_counted_each_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(MB))
    (tmp_path / "hard").hardlink_to(tmp_path / "a")
    (tmp_path / "outside").symlink_to("/usr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b").write_bytes(bytes(MB))
    size, count = measure(tmp_path)
    assert count == 5
    assert 2 * MB <= size < 2 * MB + 65_536


def test_holes_take_no_room(tmp_path):
    with (tmp_path / "sparse").open("wb") as file:
        file.truncate(100 * MB)
    assert measure(tmp_path)[0] < MB


def test_a_closed_folder_is_opened_and_counted(tmp_path):
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "x").write_bytes(bytes(MB))
    (tmp_path / "closed").chmod(0o300)
    assert measure(tmp_path)[0] >= MB


def test_nesting_beyond_any_path_is_too_much(tmp_path):
    folder = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("x" * 200, dir_fd=folder)
        deeper = os.open("x" * 200, os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = deeper
    os.close(folder)
    with pytest.raises(TooDeep):
        measure(tmp_path)
    assert "nested too deeply" in Quota().excess(tmp_path)


@pytest.mark.parametrize(
    ("quota", "says"),
    [
        (Quota(bytes=MB, files=10), "holds 2 MB, and may hold 1 MB"),
        (Quota(bytes=100 * MB, files=1), "holds 2 files, and may hold 1"),
        (Quota(bytes=100 * MB, files=2), ""),
    ],
)
def test_the_excess_is_told_in_words(tmp_path, quota, says):
    for name in "ab":
        (tmp_path / name).write_bytes(bytes(MB))
    excess = quota.excess(tmp_path)
    assert says in excess
    assert bool(says) == bool(excess)


def test_a_watch_does_not_measure_all_the_time(tmp_path):
    watch = Watch(Quota(files=0), tmp_path)
    (tmp_path / "a").touch()
    assert watch.pause() == 0
    assert watch.excess()
    assert watch.pause() > 0
    assert watch.excess() == ""
