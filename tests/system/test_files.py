"""Tests of files and folders that are complete or absent."""

import errno
import stat
from pathlib import Path

import pytest

from dcomp.errors import OutputError
from dcomp.system.files import check_replaceable, link_or_copy, make_folder, replacing, replacing_files


def test_a_block_replaces_the_file(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with replacing(path, force=True) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [ValueError("defect"), KeyboardInterrupt(), MemoryError()])
def test_a_block_that_fails_keeps_the_old_file(tmp_path, stop):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(type(stop)), replacing(path, force=True) as file:
        file.write(b"half")
        raise stop
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_error(tmp_path):
    with pytest.raises(OutputError, match="No space left"), replacing(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_needs_force(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(OutputError, match="--force"), replacing(path):
        pass
    assert path.read_bytes() == b"old"


def test_a_folder_is_never_replaced(tmp_path):
    with pytest.raises(OutputError, match="is a folder"), replacing(tmp_path, force=True):
        pass


def test_a_missing_folder_is_named(tmp_path):
    with (
        pytest.raises(OutputError, match="nowhere does not exist; create it first"),
        replacing(tmp_path / "nowhere" / "out"),
    ):
        pass


def test_the_mode_of_a_replaced_file_stays(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(path, force=True) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with replacing(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_a_linked_file_outlives_the_first(tmp_path, monkeypatch, links):
    def refuse(*_):
        raise OSError("no links here")

    if not links:
        monkeypatch.setattr(Path, "hardlink_to", refuse)
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"first")
    other.write_bytes(b"old")
    for _ in range(2):
        link_or_copy(one, other)
        assert other.read_bytes() == b"first"
    assert one.samefile(other) == links
    with replacing(one, force=True) as file:
        file.write(b"second")
    assert other.read_bytes() == b"first"


def test_a_folder_is_complete_or_absent(tmp_path):
    with pytest.raises(ValueError, match="defect"), replacing_files(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        raise ValueError("defect")
    assert list(tmp_path.iterdir()) == []
    with replacing_files(tmp_path / "out") as folder:
        (folder / "a").write_text("whole")
        assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_files_are_replaced_after_all_are_written(tmp_path):
    for name in ("a", "mine"):
        (tmp_path / name).write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing_files(tmp_path, force=True) as folder:
        (folder / "a").write_text("half")
        raise KeyboardInterrupt
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "old", "mine": "old"}
    with replacing_files(tmp_path, force=True) as folder:
        for name in ("a", "b"):
            (folder / name).write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "new", "mine": "old"}


def test_a_rename_that_fails_loses_no_file(tmp_path, monkeypatch):
    replace = Path.replace

    def fails_at_b(path, target):
        if path.name == "b":
            raise OSError(errno.EIO, "Input/output error")
        return replace(path, target)

    for name in ("a", "b", "c"):
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(Path, "replace", fails_at_b)
    with pytest.raises(OutputError, match="Input/output error"), replacing_files(tmp_path, force=True) as folder:
        for name in ("a", "b", "c"):
            (folder / name).write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a": "new", "b": "old", "c": "old"}


def test_a_folder_that_a_link_points_to_is_filled(tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replacing_files(tmp_path / "link", force=True) as folder:
        (folder / "a").write_text("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target" / "a").read_text() == "new"


def test_an_impossible_name_is_one_error():
    with pytest.raises(OutputError, match=r"'a\\x00b' cannot be the name of a file"):
        check_replaceable(Path("a\0b"), force=True)


def test_an_unwritable_folder_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(OutputError, match=r"cannot write in the folder .*permission denied"):
        check_replaceable(tmp_path / "out", force=False)


def test_a_file_in_the_place_of_a_new_folder_is_named(tmp_path):
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "a" / "b"):
        with pytest.raises(OutputError, match=r"/file is a file where a folder is needed; name another folder"):
            make_folder(folder)


def test_an_existing_folder_stays(tmp_path):
    make_folder(tmp_path / "a" / "b")
    (tmp_path / "a" / "b" / "kept").touch()
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b" / "kept").exists()
