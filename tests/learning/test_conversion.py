import numpy as np
import pytest
import torch

from dcomp.checkpoints import dtypes
from dcomp.errors import CheckpointError
from dcomp.learning.conversion import to_numpy, to_torch


@pytest.mark.parametrize("name", dtypes.BY_NAME)
def test_every_dtype_goes_to_torch_and_back_bit_for_bit(name, rng):
    raw = rng.integers(0, 2, 6 * dtypes.BY_NAME[name].itemsize, np.uint8)
    for array in (raw.view(dtypes.BY_NAME[name]).reshape(2, 3), raw.view(dtypes.BY_NAME[name])[0].reshape(())):
        back = to_numpy(to_torch(array))
        assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_a_tensor_that_is_not_contiguous_keeps_its_elements():
    tensor = torch.arange(24).reshape(2, 3, 4).permute(2, 0, 1)
    assert to_numpy(tensor).tolist() == tensor.tolist()


def test_one_element_of_any_stride_keeps_its_bits():
    assert to_numpy(torch.arange(6.0).reshape(3, 2)[1:2, 1:]).tolist() == [[3]]
    assert to_numpy(torch.arange(6.0).as_strided((1,), (2,))).tolist() == [0]


def test_a_dtype_that_safetensors_lacks_is_refused():
    with pytest.raises(CheckpointError, match="complex128"):
        to_numpy(torch.zeros(2, dtype=torch.complex128))
