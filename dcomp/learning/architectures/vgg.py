"""VGG-16 of the paper's table 5 (Simonyan and Zisserman 2015), and its usual form for CIFAR."""

from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.errors import ArchitectureError

BLOCKS = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))
"""Channels of the convolutions; a pooling ends each block."""

POOLED = 2 ** len(BLOCKS)  # pixels that become one


class VGG16(nn.Module):
    """Thirteen convolutions, `conv1_1` to `conv5_3`, and three fully connected layers: 138,357,544 parameters."""

    def __init__(self, classes: int, grayscale: bool, size: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = _add_convolutions(self, grayscale, size, bias=True)
        side = size // POOLED
        self.fc6 = nn.Linear(512 * side * side, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.dropout6 = nn.Dropout(dropout)
        self.dropout7 = nn.Dropout(dropout)
        for layer in (self.fc6, self.fc7, self.fc8):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, size, size)."""
        x = images
        for block in self.convolutions:
            for name in block:
                x = F.relu(self.get_submodule(name)(x))
            x = F.max_pool2d(x, 2)
        x = self.dropout6(F.relu(self.fc6(x.flatten(1))))
        x = self.dropout7(F.relu(self.fc7(x)))
        return self.fc8(x)


class VGG16Cifar(nn.Module):
    """VGG-16 for 32x32 images: batch normalization after each convolution, and one small classifier."""

    def __init__(self, classes: int, grayscale: bool, size: int, dropout: float) -> None:
        super().__init__()
        self.convolutions = _add_convolutions(self, grayscale, size, bias=False)
        for name, layer in list(self.named_children()):
            assert isinstance(layer, nn.Conv2d)
            self.add_module(name.replace("conv", "norm"), nn.BatchNorm2d(layer.out_channels))
        side = size // POOLED
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(512 * side * side, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, size, size)."""
        x = images
        for block in self.convolutions:
            for name in block:
                x = F.relu(self.get_submodule(name.replace("conv", "norm"))(self.get_submodule(name)(x)))
            x = F.max_pool2d(x, 2)
        return self.fc(self.dropout(x.flatten(1)))


def _add_convolutions(model: nn.Module, grayscale: bool, size: int, *, bias: bool) -> list[list[str]]:
    """Give a model its convolutions, initialized for rectifiers (He et al. 2015); return their names, by block."""
    if size < POOLED:
        raise ArchitectureError(f"VGG-16 sees images of at least {POOLED}x{POOLED} pixels, not {size}x{size}")
    channels, names = 1 if grayscale else 3, []
    for number, block in enumerate(BLOCKS, 1):
        names.append([f"conv{number}_{position}" for position in range(1, len(block) + 1)])
        for name, width in zip(names[-1], block, strict=True):
            layer = nn.Conv2d(channels, width, 3, padding=1, bias=bias)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
            model.add_module(name, layer)
            channels = width
    return names
