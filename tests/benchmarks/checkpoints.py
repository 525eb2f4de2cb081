"""Checkpoints made by chance, in the shapes and densities of real ones."""

import numpy as np

ALEXNET = {  # shape, kept fraction (Han et al. 2015, table 4), shared values
    "conv1.weight": ((96, 3, 11, 11), 0.84, 256),
    "conv2.weight": ((256, 48, 5, 5), 0.38, 256),
    "conv3.weight": ((384, 256, 3, 3), 0.35, 256),
    "conv4.weight": ((384, 192, 3, 3), 0.37, 256),
    "conv5.weight": ((256, 192, 3, 3), 0.37, 256),
    "fc6.weight": ((4096, 9216), 0.09, 32),
    "fc7.weight": ((4096, 4096), 0.09, 32),
    "fc8.weight": ((1000, 4096), 0.25, 32),
}


VGG16 = {  # likewise (table 5)
    "conv1_1.weight": ((64, 3, 3, 3), 0.58, 256),
    "conv1_2.weight": ((64, 64, 3, 3), 0.22, 256),
    "conv2_1.weight": ((128, 64, 3, 3), 0.34, 256),
    "conv2_2.weight": ((128, 128, 3, 3), 0.36, 256),
    "conv3_1.weight": ((256, 128, 3, 3), 0.53, 256),
    "conv3_2.weight": ((256, 256, 3, 3), 0.24, 256),
    "conv3_3.weight": ((256, 256, 3, 3), 0.42, 256),
    "conv4_1.weight": ((512, 256, 3, 3), 0.32, 256),
    "conv4_2.weight": ((512, 512, 3, 3), 0.27, 256),
    "conv4_3.weight": ((512, 512, 3, 3), 0.34, 256),
    "conv5_1.weight": ((512, 512, 3, 3), 0.35, 256),
    "conv5_2.weight": ((512, 512, 3, 3), 0.29, 256),
    "conv5_3.weight": ((512, 512, 3, 3), 0.36, 256),
    "fc6.weight": ((4096, 25088), 0.04, 32),
    "fc7.weight": ((4096, 4096), 0.04, 32),
    "fc8.weight": ((1000, 4096), 0.23, 32),
}


def alexnet(seed: int = 0) -> dict[str, np.ndarray]:
    """61 million parameters, 244 MB."""
    return _generated(ALEXNET, seed)


def vgg16(seed: int = 0) -> dict[str, np.ndarray]:
    """138 million parameters, 553 MB."""
    return _generated(VGG16, seed)


def _generated(network: dict[str, tuple[tuple[int, ...], float, int]], seed: int) -> dict[str, np.ndarray]:
    """Laplace-like weights, pruned and shared as the paper's, and free biases."""
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, (shape, kept, values) in network.items():
        tensors[name] = shared(rng, shape, kept, values)
        tensors[name.replace("weight", "bias")] = (0.01 * rng.normal(size=shape[0])).astype(np.float32)
    return tensors


def shared(rng: np.random.Generator, shape: tuple[int, ...], kept: float, values: int) -> np.ndarray:
    """Laplace-like weights of which a part is kept, each as one of some evenly spaced values."""
    weights = rng.laplace(size=int(np.prod(shape))).astype(np.float32)
    threshold = -np.log(kept)  # of so many of them the magnitude is above it
    step = np.float32(2 * (threshold + 6) / values)
    codes = np.clip(np.rint(weights / step), -values // 2, values // 2 - 1)
    codes[codes == 0] = 1
    return np.where(np.abs(weights) > threshold, 0.01 * step * codes, np.float32(0)).astype(np.float32).reshape(shape)
