"""Tests of the Python interface, for arrays and for tensors, and of the examples in its docstrings."""

import doctest
import inspect
import tracemalloc

import numpy as np
import pytest
import torch
from torch.nn.utils import prune

import dcomp
import dcomp.torch
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.coding import encoder
from dcomp.coding.decoder import decode_sparse_rows
from dcomp.coding.level import LEVELS
from dcomp.container.reader import Container
from dcomp.errors import ArchitectureError, CheckpointError, ContainerError, LimitError, OutputError
from dcomp.sources import load_checkpoint


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


PUBLIC = {
    **{f"dcomp.{name}": getattr(dcomp, name) for name in dcomp.__all__ if name != "__version__"},
    **{
        f"dcomp.torch.{name}": function
        for name, function in vars(dcomp.torch).items()
        if inspect.isfunction(function) and function.__module__ == "dcomp.torch" and not name.startswith("_")
    },
}


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_an_example(name):
    assert f">>> import {name.rpartition('.')[0].replace('dcomp.torch', 'torch, dcomp.torch')}" in PUBLIC[name].__doc__
    assert "dcomp." + name.removeprefix("dcomp.") + "(" in PUBLIC[name].__doc__


@pytest.mark.parametrize("module", [dcomp, dcomp.api, dcomp.torch], ids=lambda module: module.__name__)
def test_the_examples_run(module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, attempted = doctest.testmod(module)
    assert (failed, attempted > 0) == (0, True)


@pytest.fixture
def path(tmp_path, weights):
    dcomp.save_file(weights, tmp_path / "w.dcz", {"key": "value"})
    return tmp_path / "w.dcz"


def test_an_open_file_gives_names_metadata_and_tensors(path, weights):
    with dcomp.open(path) as opened:
        assert opened.keys() == list(weights)
        assert opened.metadata() == {"key": "value"}
        for name, array in weights.items():
            tensor = opened.get_tensor(name)
            assert (tensor.dtype, tensor.shape) == (array.dtype, array.shape)
            assert tensor.tobytes() == array.tobytes()


def test_one_tensor_is_read_beside_damaged_ones(path, weights):
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with dcomp.open(path) as opened:
        assert np.array_equal(opened.get_tensor("conv"), weights["conv"])


def test_a_missing_tensor_is_one_error(path):
    with dcomp.open(path, max_memory=100) as opened:
        with pytest.raises(CheckpointError, match="there is no tensor 'x'; the nearest are "):
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
            sparse = torch.sparse_csr_tensor(
                torch.from_numpy(crow), torch.from_numpy(columns), torch.from_numpy(values), matrix.shape
            )
            assert np.array_equal(sparse.to_dense().numpy(), matrix)


@pytest.mark.parametrize("shape", [(10**9, 0), (10**6, 1)], ids=str)
def test_row_pointers_count_as_memory(shape):
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
def test_compressed_sparse_rows_take_the_checked_memory(rng, make):
    encoded = encoder.encode_tensor(make(rng))
    tracemalloc.start()
    decode_sparse_rows(encoded)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= encoded.sparse_rows_memory + 100_000


@pytest.mark.parametrize("turned", [False, True])
def test_compressed_sparse_rows_are_in_row_order(rng, turned):
    runs = np.repeat(rng.random((20, 300)) < 0.2, 10, axis=0)
    array = np.where(runs, rng.choice([-1, 1, 2], runs.shape), 0).astype(np.float32)
    encoded = encoder.encode_tensor(array if turned else np.ascontiguousarray(array.T), LEVELS["default"])
    assert encoded.columns_first is turned
    crow, columns, _ = decode_sparse_rows(encoded)
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
def test_torch_tensors_keep_every_bit(tmp_path, dtype):
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


def test_a_shared_parameter_is_loaded_by_any_of_its_names(tmp_path):
    model = Tied()
    for name in ("embedding.weight", "head.weight"):
        other = Tied()
        dcomp.torch.save_file({name: model.state_dict()[name]}, tmp_path / "m.dcz", overwrite=True)
        assert dcomp.torch.load_model(other, tmp_path / "m.dcz") == ([], [])
        assert torch.equal(other.head.weight, model.head.weight)


@pytest.mark.parametrize(
    ("names", "words"), [(["weight"], "it lacks bias"), (["weight", "bias", "more"], "it also has more")]
)
def test_a_strict_load_names_the_differences(tmp_path, names, words):
    dcomp.torch.save_file({name: torch.ones((4, 3) if name == "weight" else 4) for name in names}, tmp_path / "m.dcz")
    with pytest.raises(ArchitectureError, match=f"does not fit the model: {words}"):
        dcomp.torch.load_model(torch.nn.Linear(3, 4), tmp_path / "m.dcz")


def test_of_many_differences_three_are_named(tmp_path):
    dcomp.torch.save_file({f"layer{number}": torch.ones(2) for number in range(9)}, tmp_path / "m.dcz")
    with pytest.raises(ArchitectureError, match=r"it lacks weight; it lacks bias; it also has layer0; and 8 more$"):
        dcomp.torch.load_model(torch.nn.Linear(3, 4), tmp_path / "m.dcz")


def test_a_misfit_is_one_error(tmp_path):
    dcomp.torch.save_model(torch.nn.Linear(3, 4), tmp_path / "m.dcz")
    with pytest.raises(ArchitectureError, match="does not fit the model"):
        dcomp.torch.load_model(torch.nn.Linear(3, 5), tmp_path / "m.dcz")
    assert dcomp.torch.load_model(torch.nn.Linear(3, 4, bias=False), tmp_path / "m.dcz", strict=False) == ([], ["bias"])


def test_a_lazy_checkpoint_has_its_specs(path, weights):
    with dcomp.open(path) as opened:
        checkpoint = Checkpoint({name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata())  # noqa: SIM118
    assert checkpoint.nbytes == sum(array.nbytes for array in weights.values())


def test_other_values_than_tensors_are_refused():
    with pytest.raises(CheckpointError, match="'epoch' is a int, not a tensor"):
        dcomp.torch.save({"epoch": 3})
    with pytest.raises(CheckpointError, match="tensor 'w' is sparse"):
        dcomp.torch.save({"w": torch.eye(3).to_sparse()})


def test_a_misfit_leaves_the_model_unchanged(tmp_path):
    dcomp.torch.save_file({"weight": torch.ones(4, 3), "bias": torch.ones(5)}, tmp_path / "m.dcz")
    model = torch.nn.Linear(3, 4)
    before = model.weight.clone()
    with pytest.raises(ArchitectureError, match=r"bias is \(5,\) in the file and \(4,\) in the model$"):
        dcomp.torch.load_model(model, tmp_path / "m.dcz")
    assert torch.equal(model.weight, before)


def test_a_shape_is_read_without_decoding(path):
    with dcomp.open(path) as opened:
        assert opened.get_shape("conv") == (60, 8, 10)


SAVERS = {
    "dcomp.save_file": lambda path, **options: dcomp.save_file({"weight": np.ones((4, 3))}, path, **options),
    "dcomp.torch.save_file": lambda path, **options: dcomp.torch.save_file({"w": torch.ones(4)}, path, **options),
    "dcomp.torch.save_model": lambda path, **options: dcomp.torch.save_model(torch.nn.Linear(3, 4), path, **options),
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
def test_an_existing_file_needs_overwrite(tmp_path, save):
    path = tmp_path / "m.dcz"
    path.write_bytes(b"dear")
    with pytest.raises(OutputError, match=r"m.dcz exists; overwrite=True replaces it, or name another file$"):
        save(path)
    assert path.read_bytes() == b"dear"
    save(path, overwrite=True)
    assert dcomp.load_file(path)


def pruned_model(amount=0.9):
    model = torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.ReLU(), torch.nn.Linear(30, 5))
    for layer in (model[0], model[2]):
        prune.l1_unstructured(layer, "weight", amount=amount)
    return model


def test_a_model_that_torch_prunes_is_saved_merged(tmp_path):
    model = pruned_model()
    dcomp.torch.save_model(model, tmp_path / "m.dcz")
    torch.save(model.state_dict(), tmp_path / "m.pt")
    dcomp.save_file(load_checkpoint(tmp_path / "m.pt").tensors, tmp_path / "cli.dcz")
    assert (tmp_path / "m.dcz").read_bytes() == (tmp_path / "cli.dcz").read_bytes()
    with dcomp.open(tmp_path / "m.dcz") as opened:
        assert opened.keys() == ["0.bias", "0.weight", "2.bias", "2.weight"]
        weight = opened.get_tensor("0.weight")
    assert np.array_equal(weight, model[0].weight.detach().numpy())
    assert not np.signbit(weight[weight == 0]).any()


def test_a_model_that_torch_prunes_is_loaded(tmp_path):
    model = pruned_model()
    dcomp.torch.save_model(model, tmp_path / "m.dcz")
    inputs = torch.randn(7, 40)
    for other in (pruned_model(amount=0.5), torch.nn.Sequential(*map(plain, model))):
        assert dcomp.torch.load_model(other, tmp_path / "m.dcz") == ([], [])
        assert torch.equal(other(inputs), model(inputs))


def plain(layer):
    return torch.nn.Linear(layer.in_features, layer.out_features) if isinstance(layer, torch.nn.Linear) else layer


def test_parametrizations_are_saved_as_they_are(tmp_path):
    model, other = (torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(4, 3)) for _ in range(2))
    dcomp.torch.save_model(model, tmp_path / "m.dcz")
    assert dcomp.torch.load_model(other, tmp_path / "m.dcz") == ([], [])
    assert torch.equal(other.weight, model.weight)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.empty(3, device="meta"), "tensor 'w' has a shape and no data"),
        (torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "tensor 'w' is sparse, nested or quantized"),
        (torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]), "tensor 'w' is sparse, nested or quantized"),
        (torch.nn.UninitializedParameter(), "tensor 'w' is a UninitializedParameter, which is more than its elements"),
    ],
    ids=["meta", "quantized", "nested", "subclass"],
)
def test_tensors_of_other_layouts_are_refused(tensor, words):
    with pytest.raises(CheckpointError, match=words):
        dcomp.torch.save({"w": tensor})


def test_lazy_conjugates_are_resolved():
    complex_ = torch.randn(4, dtype=torch.complex64)
    tensors = {"conj": complex_.conj(), "neg": complex_.conj().imag, "expanded": torch.ones(1).expand(5)}
    loaded = dcomp.torch.load(dcomp.torch.save(tensors))
    for name, saved in tensors.items():
        assert torch.equal(loaded[name], saved.resolve_conj().resolve_neg())
