import tracemalloc

import numpy as np
import pytest
import torch

import dcomp
import dcomp.torch
from dcomp.checkpoint import Checkpoint
from dcomp.coding import encoder, tensor
from dcomp.coding.level import LEVELS
from dcomp.container.reader import Container
from dcomp.errors import ArchitectureError, CheckpointError, ContainerError, LimitError


@pytest.fixture
def weights(rng):
    density = np.outer(rng.choice([0.02, 0.5], 60), rng.choice([0.1, 1], 80))
    kept = rng.random((60, 80)) < density
    floats = np.where(rng.random(500) < 0.3, rng.normal(size=500), 0).astype(np.float32)
    return {
        "conv": np.where(kept, rng.choice([-1, 1, 2], kept.shape), 0).astype(np.float32).reshape(60, 8, 10),
        "bias": rng.normal(size=60).astype(np.float32),
        "vector": floats,
        "scalar": np.array(3.5),
        "empty": np.zeros((0, 4), np.float32),
        "tied": floats.reshape(10, 50),
    }


@pytest.fixture
def path(tmp_path, weights):
    dcomp.save_file(weights, tmp_path / "w.dcz", {"key": "value"})
    return tmp_path / "w.dcz"


def test_an_open_file_gives_its_names_metadata_and_single_tensors(path, weights):
    with dcomp.open(path) as opened:
        assert opened.keys() == list(weights)
        assert opened.metadata() == {"key": "value"}
        for name, array in weights.items():
            found = opened.get_tensor(name)
            assert (found.dtype, found.shape) == (array.dtype, array.shape)
            assert found.tobytes() == array.tobytes()


def test_one_tensor_is_read_though_the_others_are_damaged(path, weights):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with dcomp.open(path) as opened:
        assert np.array_equal(opened.get_tensor("conv"), weights["conv"])


def test_what_an_open_file_cannot_give_is_one_clear_error(path):
    with dcomp.open(path, max_memory=100) as opened:
        with pytest.raises(CheckpointError, match="there is no tensor 'x'; the names nearest to it are "):
            opened.get_tensor("x")
        with pytest.raises(LimitError):
            opened.get_tensor("conv")
        with pytest.raises(LimitError):
            opened.get_csr("conv")
    with pytest.raises(ContainerError, match="closed"):
        opened.keys()


def test_compressed_sparse_rows_are_the_dense_tensor(path, weights):
    with dcomp.open(path) as opened:
        for name in ("conv", "bias", "vector", "tied", "scalar", "empty"):
            crow, columns, values = opened.get_csr(name)
            shape = weights[name].shape if weights[name].ndim > 1 else (1, weights[name].size)
            matrix = weights[name].reshape(shape[0], int(np.prod(shape[1:])))
            assert crow.shape == (matrix.shape[0] + 1,)
            dense = np.zeros_like(matrix)
            dense[np.repeat(np.arange(matrix.shape[0]), np.diff(crow)), columns] = values
            assert np.array_equal(dense, matrix)
            made = torch.sparse_csr_tensor(
                torch.from_numpy(crow), torch.from_numpy(columns), torch.from_numpy(values), matrix.shape
            )
            assert np.array_equal(made.to_dense().numpy(), matrix)


@pytest.mark.parametrize("shape", [(10**9, 0), (10**6, 1)], ids=str)
def test_the_starts_of_many_empty_rows_count_as_memory(shape):
    data = dcomp.save({"w": np.zeros(shape, np.int8)})
    with pytest.raises(LimitError, match="more than the limit of 8,000,000"):
        Container(data).csr("w", max_memory=8_000_000)


KEPT = {
    "dense bytes": lambda rng: rng.integers(1, 100, (100, 3000)).astype(np.int8),
    "dense floats": lambda rng: rng.normal(size=(100, 3000)).astype(np.float32),
    "sparse": lambda rng: np.where(rng.random((100, 3000)) < 0.1, 1, 0).astype(np.float32),
    "many rows": lambda rng: np.zeros((300_000, 1), np.int8),
}


@pytest.mark.parametrize("make", KEPT.values(), ids=KEPT)
def test_compressed_sparse_rows_take_no_more_memory_than_is_checked(rng, make):
    encoded = encoder.encode(make(rng))
    tracemalloc.start()
    tensor.csr(encoded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= encoded.csr_memory + 100_000


@pytest.mark.parametrize("turned", [False, True])
def test_compressed_sparse_rows_come_row_by_row_whatever_the_order_in_the_file(rng, turned):
    runs = np.repeat(rng.random((20, 300)) < 0.2, 10, axis=0)
    array = np.where(runs, rng.choice([-1, 1, 2], runs.shape), 0).astype(np.float32)
    encoded = encoder.encode(array if turned else np.ascontiguousarray(array.T), LEVELS["default"])
    assert encoded.columns_first is turned
    crow, columns, _ = tensor.csr(encoded)
    rows = np.repeat(np.arange(encoded.shape[0]), np.diff(crow))
    assert np.all(np.diff(rows * encoded.shape[1] + columns) > 0)


DTYPES = [
    torch.float32,
    torch.bfloat16,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
    torch.int64,
    torch.bool,
    torch.complex64,
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_torch_tensors_come_back_bit_for_bit(tmp_path, dtype):
    tensors = {"w": torch.randn(30, 20).to(dtype), "scalar": torch.ones((), dtype=dtype)}
    dcomp.torch.save_file(tensors, tmp_path / "t.dcz", {"a": "b"})
    for loaded in (dcomp.torch.load_file(tmp_path / "t.dcz"), dcomp.torch.load(dcomp.torch.save(tensors))):
        for name, value in tensors.items():
            assert (loaded[name].dtype, loaded[name].shape) == (dtype, value.shape)
            assert torch.equal(loaded[name].reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8))


class Tied(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = torch.nn.Embedding(50, 20)
        self.head = torch.nn.Linear(20, 50, bias=False)
        self.head.weight = self.embedding.weight


def test_a_model_with_tied_weights_is_saved_once_and_loaded(tmp_path):
    model, other = Tied(), Tied()
    dcomp.torch.save_model(model, tmp_path / "m.dcz")
    assert (tmp_path / "m.dcz").stat().st_size < 1.1 * 4 * 50 * 20
    assert dcomp.torch.load_model(other, tmp_path / "m.dcz") == ([], [])
    assert torch.equal(other.head.weight, model.head.weight)


def test_a_shared_parameter_is_loaded_under_whichever_of_its_names_the_file_has(tmp_path):
    model = Tied()
    for name in ("embedding.weight", "head.weight"):
        other = Tied()
        dcomp.torch.save_file({name: model.state_dict()[name]}, tmp_path / "m.dcz")
        assert dcomp.torch.load_model(other, tmp_path / "m.dcz") == ([], [])
        assert torch.equal(other.head.weight, model.head.weight)


@pytest.mark.parametrize(
    ("names", "words"), [(["weight"], "it lacks bias"), (["weight", "bias", "more"], "it has more besides")]
)
def test_a_strict_load_names_what_is_missing_or_too_much(tmp_path, names, words):
    dcomp.torch.save_file({name: torch.ones((4, 3) if name == "weight" else 4) for name in names}, tmp_path / "m.dcz")
    with pytest.raises(ArchitectureError, match=f"does not fit the model: {words}"):
        dcomp.torch.load_model(torch.nn.Linear(3, 4), tmp_path / "m.dcz")


def test_a_file_that_does_not_fit_the_model_is_one_error(tmp_path):
    dcomp.torch.save_model(torch.nn.Linear(3, 4), tmp_path / "m.dcz")
    with pytest.raises(ArchitectureError, match="does not fit the model"):
        dcomp.torch.load_model(torch.nn.Linear(3, 5), tmp_path / "m.dcz")
    assert dcomp.torch.load_model(torch.nn.Linear(3, 4, bias=False), tmp_path / "m.dcz", strict=False) == ([], ["bias"])


def test_a_checkpoint_read_tensor_by_tensor_keeps_its_outline(path, weights):
    with dcomp.open(path) as opened:
        checkpoint = Checkpoint({name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata())  # noqa: SIM118
    assert checkpoint.nbytes == sum(array.nbytes for array in weights.values())


def test_what_is_no_dense_tensor_is_refused_by_name():
    with pytest.raises(CheckpointError, match="'epoch' is a int, not a tensor"):
        dcomp.torch.save({"epoch": 3})
    with pytest.raises(CheckpointError, match="'w' is a sparse tensor"):
        dcomp.torch.save({"w": torch.eye(3).to_sparse()})


def test_a_model_that_a_file_does_not_fit_is_left_as_it_was(tmp_path):
    dcomp.torch.save_file({"weight": torch.ones(4, 3), "bias": torch.ones(5)}, tmp_path / "m.dcz")
    model = torch.nn.Linear(3, 4)
    before = model.weight.clone()
    with pytest.raises(ArchitectureError, match=r"bias is \(5,\) in the file and \(4,\) in the model$"):
        dcomp.torch.load_model(model, tmp_path / "m.dcz")
    assert torch.equal(model.weight, before)


def test_a_shape_is_known_without_decoding(path):
    with dcomp.open(path) as opened:
        assert opened.get_shape("conv") == (60, 8, 10)
