import errno
import stat
from pathlib import Path

import pytest

from dcomp.errors import OutputError
from dcomp.files import link_or_copy, replacing


def test_a_block_that_ends_well_replaces_the_file_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with replacing(path, force=True) as file:
        file.write(b"new")
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [ValueError("defect"), KeyboardInterrupt(), MemoryError()])
def test_whatever_stops_the_block_leaves_the_old_file(tmp_path, stop):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(type(stop)), replacing(path, force=True) as file:
        file.write(b"half")
        raise stop
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_one_error_and_leaves_no_half_file(tmp_path):
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
    with pytest.raises(OutputError, match="nowhere is not a folder"), replacing(tmp_path / "nowhere" / "out"):
        pass


def test_the_mode_of_a_replaced_file_stays(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with replacing(path, force=True) as file:
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_what_a_link_points_to_is_replaced_and_the_link_stays(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_bytes(b"old")
    link.symlink_to(target)
    with replacing(link, force=True) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.parametrize("links", [True, False])
def test_a_file_that_is_linked_or_copied_lasts_when_the_first_is_replaced(tmp_path, monkeypatch, links):
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
