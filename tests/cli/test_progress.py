"""What a person at a terminal sees: commands run in a pseudo-terminal of 80 columns."""

import os
import re
import struct
import subprocess
import sys

import pytest

fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))

COLUMNS = 80
CONTROL = re.compile(r"\x1b\[(?P<number>[0-9;?]*)(?P<kind>[A-Za-z])")
PART = re.compile(rf"{CONTROL.pattern}|[\r\n]|[^\x1b\r\n]+")
TRAIN = ["train", "lenet300", "--data", "digits", "--epochs", "2", "--device", "cpu"]

UNSET = ("COLUMNS", "LINES", "NO_COLOR", "OMP_NUM_THREADS")
ENVIRONMENT = {name: value for name, value in os.environ.items() if name not in UNSET}

SWEEP = """
name: tiny
data: digits
device: cpu
train: {architecture: lenet300, epochs: 1}
eval: {}
"""


def on_a_terminal(*arguments, folder, columns=COLUMNS):
    """Run a command whose standard error is a terminal; what came there, and its exit code."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "dcomp", *arguments],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env={**ENVIRONMENT, "TERM": "xterm"},
    )
    os.close(theirs)
    received = b""
    try:
        while part := os.read(ours, 65536):
            received += part
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    return received.decode(), process.wait()


def shown(received):
    """The text without colours and movements of the cursor, as if each change were a line."""
    return CONTROL.sub("", received).replace("\r", "\n")


def left_on_screen(received):
    """The lines that stay, as a terminal without an end would have them."""
    lines, row, column = [""], 0, 0
    for part in PART.finditer(received):
        if part[0] == "\r":
            column = 0
        elif part[0] == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part["kind"] == "A":
            row -= int(part["number"] or 1)
        elif part["kind"] == "K":
            lines[row] = ""
        elif part["kind"] is None:
            lines[row] = lines[row].ljust(column)[:column] + part[0] + lines[row][column + len(part[0]) :]
            column += len(part[0])
    return [line.rstrip() for line in lines if line.strip()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    received, code = on_a_terminal(*TRAIN, "--batch-size", "4", folder=tmp_path_factory.mktemp("terminal"))
    assert code == 0, received
    return received


def test_the_bar_shows_all_figures_within_80_columns(trained):
    bars = re.findall(r"train epoch ([12])/2 .* batch (\d+)/331  loss \d+\.\d{3}  error \d+\.\d %", shown(trained))
    assert {epoch for epoch, _ in bars} == {"1", "2"}
    assert all(0 < int(batch) <= 331 for _, batch in bars)
    assert max(len(line) for line in shown(trained).split("\n")) <= COLUMNS


def test_a_narrow_terminal_shows_the_last_figures_uncut(tmp_path):
    received, code = on_a_terminal(*TRAIN, "--batch-size", "4", folder=tmp_path, columns=60)
    assert code == 0, received
    bars = [
        line for line in shown(received).split("\n") if "/2 " in line and "error" in line and "validation" not in line
    ]
    assert bars
    assert all(re.search(r"  loss \d+\.\d{3}  error \d+\.\d %|^\S+ epoch", line) and "…" not in line for line in bars)
    assert max(map(len, bars)) <= 60


def test_the_first_seconds_say_what_is_being_done(trained):
    text = shown(trained)
    places = [text.index(f"train {what}") for what in ("loading torch", "loading digits", "building lenet300", "epoch")]
    assert places == sorted(places)


def test_a_terminal_keeps_every_line_that_a_pipe_shows_and_no_bar(trained, tmp_path):
    command = [sys.executable, "-m", "dcomp", *TRAIN, "--batch-size", "4"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stderr.count("\n") >= 3
    assert left_on_screen(trained) == done.stderr.splitlines()


def test_the_chosen_threads_and_epoch_take_a_line_each(trained):
    lines = left_on_screen(trained)
    assert lines.count("1 thread computes: enough for a small network; see --threads") == 1
    assert len([line for line in lines if re.match(r"epoch [12] of 2 kept: lowest validation error \d", line)]) == 1


def test_quiet_is_silent_on_a_terminal_too(tmp_path):
    assert on_a_terminal(*TRAIN, "-q", folder=tmp_path) == ("", 0)


def test_an_error_leaves_no_bar_on_the_terminal(tmp_path):
    received, code = on_a_terminal("train", "lenet300", "--data", "imagefolder:none", folder=tmp_path)
    assert code == 1
    assert "train loading torch" in shown(received)
    assert [line[:7] for line in left_on_screen(received)] == ["error: "]
    assert received.count("\x1b[?25h") == received.count("\x1b[?25l")  # the cursor is seen again


def test_a_sweep_shows_the_points_that_are_done_and_those_that_run(tmp_path):
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    received, code = on_a_terminal("sweep", "tiny.yaml", "--set", "seed=3,4", "--out", "out", folder=tmp_path)
    assert code == 0, received
    assert re.match(
        r"1 run at a time, on (1 thread|up to \d+ threads): \d+ of \d+ processors are free", shown(received)
    )
    for done, running in ((0, "seed=3"), (1, "seed=4")):
        assert re.search(rf"{done} of 2 points .* running {running} ", shown(received))
    assert not any("points" in line and "running" in line for line in left_on_screen(received))


def test_encoding_and_verifying_show_a_bar(tmp_path, dense_file):
    received, _ = on_a_terminal("encode", str(dense_file), "-o", "x.dcz", folder=tmp_path)
    assert "encoding" in shown(received)
    assert "verifying" in shown(on_a_terminal("verify", "x.dcz", folder=tmp_path)[0])
