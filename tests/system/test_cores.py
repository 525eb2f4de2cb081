"""Tests of counting processors, with files like the kernel's."""

import os

import pytest

from dcomp.system import cores

V2 = "0::/job/step\n"
V1 = "4:memory:/job\n3:cpu,cpuacct:/job\n2:cpuset:/\n"


@pytest.fixture
def system(tmp_path):
    """A folder of control groups, and the file that says which of them a process is in."""

    def make(membership, **files):
        (tmp_path / "membership").write_text(membership)
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_dot_", ".")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path, tmp_path / "membership"

    return make


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        (V2, {"job__step__cpu_dot_max": "150000 100000\n"}, 1.5),
        (V2, {"job__cpu_dot_max": "400000 100000\n", "job__step__cpu_dot_max": "max 100000\n"}, 4),
        (V2, {"job__cpu_dot_max": "200000 100000\n", "job__step__cpu_dot_max": "800000 100000\n"}, 2),
        ("0::/\n", {"cpu_dot_max": "300000 100000\n"}, 3),
        (V2, {"job__step__cpu_dot_max": "max 100000\n"}, None),
        (V1, {"cpu__job__cpu_dot_cfs_quota_us": "250000\n", "cpu__job__cpu_dot_cfs_period_us": "100000\n"}, 2.5),
        (V1, {"cpu__cpu_dot_cfs_quota_us": "50000\n", "cpu__cpu_dot_cfs_period_us": "100000\n"}, 0.5),
        (V1, {"cpu__job__cpu_dot_cfs_quota_us": "-1\n", "cpu__job__cpu_dot_cfs_period_us": "100000\n"}, None),
        (V2, {"job__step__cpu_dot_max": "nonsense"}, None),
        ("", {}, None),
    ],
)
def test_the_smallest_quota_holds(system, membership, files, limit):
    assert cores.quota(*system(membership, **files)) == limit


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cores.quota(tmp_path, tmp_path / "none") is None


def stat(*busy_and_idle):
    rows = [f"cpu{number} {busy} 0 0 {idle} 0 0 0 0 0 0" for number, (busy, idle) in enumerate(busy_and_idle)]
    return "\n".join(["cpu 1 2 3 4 5 6 7 8 9 0", *rows, "intr 9", ""])


def test_busy_is_a_fraction_of_ticks(tmp_path, monkeypatch):
    source = tmp_path / "stat"
    source.write_text(stat((100, 100), (50, 50), (7, 7)))
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)  # the third is not ours
    monkeypatch.setattr("time.sleep", lambda _: source.write_text(stat((120, 100), (55, 65), (99, 7))))
    assert cores.busy(0.1, source) == pytest.approx(1 + 0.25)


def test_without_ticks_busy_is_the_load(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getloadavg", lambda: (1.5, 0, 0), raising=False)
    assert cores.busy(0.1, tmp_path / "none") == 1.5


@pytest.mark.parametrize(
    ("count", "busy", "allowed", "sharing", "free"),
    [(8, 0.2, 8, 1, 8), (8, 2.6, 8, 1, 5), (8, 0.0, 3, 1, 3), (2, 2.0, 2, 1, 1), (8, 0.0, 8, 4, 2), (1, 0.0, 1, 2, 1)],
)
def test_free_processors_are_allowed_and_not_busy(monkeypatch, count, busy, allowed, sharing, free):
    for name, value in (("in_affinity", count), ("busy", busy), ("allowed", allowed)):
        monkeypatch.setattr(cores, name, lambda value=value: value)
    monkeypatch.setattr(cores, "LOCAL_WORLD_SIZE", sharing)
    cores.take(None)
    try:
        assert cores.free() == free
        monkeypatch.setattr(cores, "busy", lambda: 100.0)
        assert cores.free() == free  # all stages of a run compute alike
        cores.take(5)
        assert cores.free() == 5
    finally:
        cores.take(None)


def test_the_quota_limits_the_affinity(monkeypatch):
    monkeypatch.setattr(cores, "in_affinity", lambda: 4)
    for limit, allowed in ((None, 4), (2.9, 2), (0.5, 1), (64.0, 4)):
        monkeypatch.setattr(cores, "quota", lambda limit=limit: limit)
        assert cores.allowed() == allowed


@pytest.mark.parametrize("variables", [{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"KMP_BLOCKTIME": "200"}])
def test_the_environment_may_set_how_threads_wait(monkeypatch, variables):
    environment = dict(variables)
    monkeypatch.setattr(os, "environ", environment)
    cores.wait_passively()
    assert environment == (variables or {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"})
