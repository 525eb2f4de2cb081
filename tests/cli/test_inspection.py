import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

import dcomp as library
from dcomp.reporting import render


@pytest.fixture
def files(tmp_path, rng, dcomp):
    kept = rng.random((50, 60)) < 0.1
    tensors = {
        "fc.weight": np.where(kept, rng.choice([-1, 1], kept.shape), 0).astype(np.float32),
        "fc.bias": rng.normal(size=50).astype(np.float32),
        "tied": np.arange(3000, dtype=np.float64),
        "tied.too": np.arange(3000, dtype=np.float64),
    }
    save_file(tensors, tmp_path / "m.safetensors", {"key": "value"})
    assert dcomp("encode", tmp_path / "m.safetensors")[0] == 0
    return tmp_path


def test_inspect_lists_every_tensor_and_adds_up(dcomp, files):
    code, out, _ = dcomp("inspect", files / "m.dcz", "--json")
    listing = json.loads(out)
    size = (files / "m.dcz").stat().st_size
    assert code == 0
    assert listing["file_bytes"] == size == listing["header_bytes"] + sum(line["bytes"] for line in listing["tensors"])
    assert [line["name"] for line in listing["tensors"]] == ["tied", "tied.too", "fc.bias", "fc.weight"]
    assert listing["tensors"][1]["encoding"] == "tied to tied"
    assert listing["tensors"][3]["encoding"].startswith("positions")
    assert listing["metadata"] == {"key": "value"}
    table = dcomp("inspect", files / "m.dcz")[1]
    assert "50 x 60" in table
    assert f"{size:,}" in table.splitlines()[-1]


def test_inspect_reads_no_record(dcomp, files):
    data = bytearray((files / "m.dcz").read_bytes())
    before = dcomp("inspect", files / "m.dcz")[1]
    data[-1] ^= 255
    (files / "m.dcz").write_bytes(data)
    assert dcomp("inspect", files / "m.dcz")[1] == before


def test_verify_says_that_all_is_right(dcomp, files):
    code, out, _ = dcomp("verify", files / "m.dcz", "--against", files / "m.safetensors")
    assert (code, out) == (
        0,
        f"{files / 'm.dcz'}: 4 tensors, 60,200 bytes, every checksum right, equal to {files / 'm.safetensors'}\n",
    )
    assert json.loads(dcomp("verify", files / "m.dcz", "--json")[1]) == {
        "tensor_count": 4,
        "dense_bytes": 60_200,
        "equal_to": None,
    }


def test_verify_names_every_damaged_tensor(dcomp, files):
    listing = json.loads(dcomp("inspect", files / "m.dcz", "--json")[1])
    data = bytearray((files / "m.dcz").read_bytes())
    for line in listing["tensors"][2:]:
        data[line["offset"]] ^= 255
    (files / "m.dcz").write_bytes(data)
    code, out, err = dcomp("verify", files / "m.dcz")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "tensor 'fc.bias': its checksum does not match" in err
    assert "tensor 'fc.weight': its checksum does not match" in err


def test_verify_names_the_first_difference(dcomp, files):
    original = load_file(files / "m.safetensors")

    def against(change, metadata=None):
        tensors = {name: array.copy() for name, array in original.items()}
        change(tensors)
        save_file(tensors, files / "other.safetensors", {"key": "value"} if metadata is None else metadata)
        code, _, err = dcomp("verify", files / "m.dcz", "--against", files / "other.safetensors")
        assert code == 1
        return err

    assert "tensor 'x' is in the checkpoint only" in against(lambda t: t.update(x=np.zeros(2)))
    assert "tensor 'fc.bias' is in the container only" in against(lambda t: t.pop("fc.bias"))
    reshaped = against(lambda t: t.update({"fc.bias": t["fc.bias"].reshape(5, 10)}))
    assert "tensor 'fc.bias' is float32 (50,) in the container and float32 (5, 10) in the checkpoint" in reshaped
    negated = against(lambda t: t["fc.bias"].__setitem__(7, -t["fc.bias"][7]))
    assert "tensor 'fc.bias' differs in 1 of 50 elements, the first at (7,)" in negated
    assert "the metadata differ, first in 'key'" in against(lambda t: None, metadata={"key": "other"})


def test_a_dry_run_prints_the_size_and_writes_nothing(dcomp, files):
    before = {path.name: path.read_bytes() for path in files.iterdir()}
    code, out, _ = dcomp("encode", files / "m.safetensors", "--dry-run")
    assert code == 0
    assert f"in {(files / 'm.dcz').stat().st_size:,}:" in out
    assert {path.name: path.read_bytes() for path in files.iterdir()} == before


def test_levels_write_files_that_decode_alike(dcomp, files):
    sizes = []
    for level in ("fast", "default", "max"):
        assert dcomp("encode", files / "m.safetensors", "--level", level, "-o", files / level)[0] == 0
        assert dcomp("verify", files / level, "--against", files / "m.safetensors")[0] == 0
        sizes.append((files / level).stat().st_size)
    assert sizes == sorted(sizes, reverse=True)


def test_bench_measures_every_codec(dcomp, files):
    code, out, err = dcomp("bench", files / "m.safetensors", "-t", "0", "--levels", "1", "--json")
    rows = json.loads(out)
    assert (code, [row["codec"] for row in rows]) == (0, ["dcz", "safetensors", "zstd -1"])
    assert rows[0]["bytes"] == (files / "m.dcz").stat().st_size
    assert all(row["compress"] > 0 < row["decompress"] for row in rows)
    assert "zstd -1 ..." in err
    assert "MB/s" in dcomp("bench", files / "m.safetensors", "-t", "0", "--levels", "1", "-w", "2", "-q")[1]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["inspect", "absent.dcz"], 1, "cannot read absent.dcz"),
        (["verify", "m.safetensors"], 1, "it begins as a checkpoint, of which dcomp encode makes a container"),
        (["verify", "text.txt"], 1, "text.txt: not a dcz container\n"),
        (["verify", "m.dcz", "--against", "absent"], 1, "cannot read absent"),
        (["verify", "m.dcz", "--against", "text.txt"], 1, "is not a checkpoint: dcomp reads"),
        (["verify", "m.dcz", "--max-memory", "1e-6"], 1, "(--max-memory) raises it"),
        (["inspect", "text.txt"], 1, "text.txt is not a checkpoint: dcomp reads"),
        (["inspect", "cut.dcz"], 1, "it is cut short"),
        (["verify", "cut.dcz"], 1, "it is cut short"),
        (["inspect", "head.dcz"], 1, "head.dcz: "),
        (["verify", "empty.dcz"], 1, "cannot read empty.dcz"),
        (["bench", "text.txt"], 1, "is not a checkpoint: dcomp reads"),
        (["bench", "m.safetensors", "-t", "-1"], 2, "Invalid value for '-t'"),
        (["encode", "text.txt", "--dry-run"], 1, "is not a checkpoint: dcomp reads"),
        (["bench", "m.safetensors", "--levels", "x"], 2, "'x' is not a list of numbers like 3,19"),
        (["bench", "m.safetensors", "--levels", "99"], 2, "zstd has the levels"),
        (["encode", "m.safetensors", "--level", "best", "-o", "x"], 2, "'best' is not one of"),
        (["encode", "m.safetensors", "-w", "0", "-o", "x"], 2, "should be greater than or equal to 1"),
    ],
)
def test_a_mistake_is_one_error(dcomp, files, monkeypatch, arguments, code, message):
    monkeypatch.chdir(files)
    container = (files / "m.dcz").read_bytes()
    for name, data in (
        ("cut.dcz", container[:-1]),
        ("head.dcz", container[:20]),
        ("empty.dcz", b""),
        ("text.txt", b"hello"),
    ):
        (files / name).write_bytes(data)
    got, out, err = dcomp(*arguments)
    assert (got, out, err.count("\n")) == (code, "", 1)
    assert message in err


@pytest.mark.parametrize("command", ["inspect", "report", "verify", "decode"])
def test_a_directory_that_takes_more_than_the_limit_is_refused(dcomp, tmp_path, command):
    path = tmp_path / "m.dcz"
    path.write_bytes(library.save({}, {"notes": "a" * (1 << 20)}))
    arguments = ["-o", tmp_path / "out"] if command == "decode" else []
    code, out, err = dcomp(command, path, "--max-memory", 2**-8, *arguments)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "the container's directory takes more than the limit of memory; max_memory (--max-memory) raises it" in err
    assert dcomp(command, path, "--max-memory", 2**-5, *arguments)[0] == 0


def test_long_listings_end_early_and_say_where_the_rest_is(dcomp, tmp_path, monkeypatch):
    monkeypatch.setattr(render, "MOST_TENSORS", 2)
    monkeypatch.setattr(render, "MOST_KEYS", 1)
    path = tmp_path / "m.dcz"
    path.write_bytes(
        library.save({name: np.ones(3, np.float32) for name in "wxyz"}, {"first": "", "second": "", "third": ""})
    )
    table = dcomp("inspect", path)[1]
    assert table.count("and 2 more; --json lists all") == 2
    assert len(json.loads(dcomp("inspect", path, "--json")[1])["tensors"]) == 4


def test_inspect_shows_the_same_as_a_table(dcomp, files):
    listing = json.loads(dcomp("inspect", files / "m.dcz", "--json")[1])
    code, table, _ = dcomp("inspect", files / "m.dcz")
    assert code == 0
    for line in (line for line in listing["tensors"] if line["bytes"]):
        row = next(row for row in table.splitlines() if row.startswith(f"{line['name']} "))
        assert row.split()[-5:] == [
            f"{line['dense_bytes']:,}",
            f"{line['bytes']:,}",
            f"{line['ratio']:.2f}x",
            f"{line['offset']:,}",
            line["crc"],
        ]
    assert f"{listing['file_bytes']:,}" in next(row for row in table.splitlines() if row.startswith("whole file"))


def test_inspect_shortens_metadata_and_replaces_control_characters(dcomp, tmp_path):
    library.save_file({"w\x1b[31m": np.ones(3)}, tmp_path / "x.dcz", {"long": "é" * 500, "[bold]": "a\x1b[2Jb\nc"})
    code, out, _ = dcomp("inspect", tmp_path / "x.dcz")
    assert code == 0
    assert f"long     1,000 {'é' * 60}..." in out
    assert "[bold]" in out
    assert "\x1b" not in out
    assert "a\N{REPLACEMENT CHARACTER}[2Jb\N{REPLACEMENT CHARACTER}c" in out
    assert json.loads(dcomp("inspect", tmp_path / "x.dcz", "--json")[1])["metadata"]["long"] == "é" * 500


@pytest.mark.parametrize(
    "command", [["inspect"], ["inspect", "-"], ["verify", "-"], ["verify", "--against", "m.safetensors"]]
)
def test_a_container_comes_from_standard_input(files, command):
    with (files / "m.dcz").open("rb") as stdin:
        done = subprocess.run([sys.executable, "-m", "dcomp", *command], stdin=stdin, capture_output=True, cwd=files)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout


def test_a_dry_run_reads_standard_input(dcomp, files):
    with (files / "m.safetensors").open("rb") as stdin:
        command = [sys.executable, "-m", "dcomp", "encode", "--dry-run", "-q"]
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True)
    assert done.stdout == dcomp("encode", files / "m.safetensors", "--dry-run")[1]


def test_bench_prints_a_row_for_each_codec(dcomp, files):
    bench = ["bench", files / "m.safetensors", "-t", "0"]
    code, out, err = dcomp(*bench, "--levels", "1,3")
    assert code == 0
    first_words = [line.split()[0] for line in out.splitlines()]
    assert first_words == ["codec", "dcz", "safetensors", "zstd", "zstd"]
    assert err.splitlines() == ["dcz ...", "safetensors ...", "zstd -1 ...", "zstd -3 ..."]
    assert dcomp(*bench, "--levels", "1", "-q")[2] == ""


@pytest.mark.parametrize("command", ["inspect", "verify", "bench"])
def test_a_folder_is_refused_in_one_line(tmp_path, dcomp, command):
    code, out, err = dcomp(command, tmp_path)
    assert (out, err.count("\n")) == ("", 1)
    assert code in (1, 2)
    assert str(tmp_path) in err


@pytest.mark.parametrize("command", ["inspect", "verify", "bench"])
def test_an_empty_pipe_is_refused_in_one_line(command):
    done = subprocess.run([sys.executable, "-m", "dcomp", command], input=b"", capture_output=True)
    assert done.returncode == 2
    assert done.stderr == b"error: standard input is empty: name a file, or read the message of the command before it\n"


def test_inspect_lists_a_checkpoint_that_is_not_compressed(dcomp, files):
    code, out, err = dcomp("inspect", files / "m.safetensors", "--json")
    listing = json.loads(out)
    assert code == 0
    assert err == "not compressed; dcomp report says what dcomp encode would make of it\n"
    arrays = load_file(files / "m.safetensors")
    lines = {line["name"]: line for line in listing["tensors"]}
    assert lines.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (lines[name]["shape"], lines[name]["bytes"]) == (list(array.shape), array.nbytes)
        assert (lines[name]["elements"], lines[name]["kept"]) == (array.size, np.count_nonzero(array))
    assert lines["fc.weight"]["dtype"] == "F32"
    assert listing["bytes"] == 60_200
    assert listing["metadata"] == {"key": "value"}
    table = dcomp("inspect", files / "m.safetensors")[1]
    kept = next(row.split()[-1] for row in table.splitlines() if row.startswith("fc.weight"))
    assert kept == f"{lines['fc.weight']['kept_percent']:.2f}"


def test_inspect_lists_shards_and_torch_files_alike(dcomp, files):
    import torch

    arrays = load_file(files / "m.safetensors")
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, files / "m.pt")
    (files / "sharded").mkdir()
    for place, (name, array) in enumerate(arrays.items()):
        save_file({name: array}, files / "sharded" / f"{place}.safetensors")
    weight_map = {name: f"{place}.safetensors" for place, name in enumerate(arrays)}
    index = json.dumps({"metadata": {}, "weight_map": weight_map})
    (files / "sharded" / "model.safetensors.index.json").write_text(index)

    def lines(path):
        listing = json.loads(dcomp("inspect", path, "--json", "-q")[1])
        return sorted((line["name"], line["shape"], line["kept"]) for line in listing["tensors"])

    assert lines(files / "m.pt") == lines(files / "sharded") == lines(files / "m.safetensors")


def test_quiet_inspect_prints_no_note(dcomp, files):
    code, out, err = dcomp("inspect", files / "m.safetensors", "-q")
    assert (code, err) == (0, "")
    assert out
    assert dcomp("inspect", files / "m.dcz", "-q")[2] == ""


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", ["m.dcz", "m.safetensors"])
def test_inspect_fits_narrow_terminals(dcomp, files, monkeypatch, columns, name):
    listing = json.loads(dcomp("inspect", files / name, "--json")[1])
    monkeypatch.setenv("COLUMNS", str(columns))
    out = dcomp("inspect", files / name, "-q")[1]
    assert max(map(len, out.splitlines())) <= columns
    words = out.split()
    for line in listing["tensors"]:
        assert {line["name"], f"{line['bytes']:,}"} <= set(words)
        assert " x ".join(map(str, line["shape"])) in out


@pytest.mark.parametrize(
    "command",
    [
        ["report"],
        ["inspect"],
        ["bench", "-t", "0", "--levels", "1"],
        ["eval", "--data", "digits", "--arch", "lenet300"],
        ["sensitivity", "--data", "digits", "--arch", "lenet300", "--prune", "0.5", "--bits", "none"],
    ],
    ids=lambda command: command[0],
)
def test_what_lies_beside_a_state_is_said_to_be_left_out(command, dcomp, lenet_like, tmp_path):
    state = {name: torch.tensor(array) for name, array in lenet_like.tensors.items()}
    torch.save({"state_dict": state, "ema": {"fc1.bias": state["fc1.bias"] / 2}}, tmp_path / "net.pt")
    code, _, err = dcomp(command[0], tmp_path / "net.pt", *command[1:])
    assert (code, "the tensors under 'state_dict' are read, those under 'ema' are left out" in err) == (0, True)
