"""AlexNet of the paper's table 4 (Krizhevsky et al. 2012), as Caffe's bvlc_alexnet has it."""

from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.errors import ArchitectureError
from dcomp.learning.architectures.lrn import LocalResponseNorm

SMALLEST = 67  # pixels that leave one after the last pooling


class AlexNet(nn.Module):
    """Five convolutions, three of them in two groups, and three fully connected layers: 60,965,224 parameters."""

    def __init__(self, classes: int, grayscale: bool, size: int, dropout: float) -> None:
        super().__init__()
        if size < SMALLEST:
            raise ArchitectureError(f"alexnet sees images of at least {SMALLEST}x{SMALLEST} pixels, not {size}x{size}")
        self.conv1 = nn.Conv2d(1 if grayscale else 3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        side = _pooled(_pooled(_pooled((size - 11) // 4 + 1)))
        self.fc6 = nn.Linear(256 * side * side, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, classes)
        self.norm = LocalResponseNorm(size=5, alpha=1e-4)
        self.dropout6 = nn.Dropout(dropout)
        self.dropout7 = nn.Dropout(dropout)
        self._initialize()

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, size, size)."""
        x = F.max_pool2d(self.norm(F.relu_(self.conv1(images))), 3, 2)
        x = F.max_pool2d(self.norm(F.relu_(self.conv2(x))), 3, 2)
        x = F.relu_(self.conv3(x))
        x = F.relu_(self.conv4(x))
        x = F.max_pool2d(F.relu_(self.conv5(x)), 3, 2)
        x = self.dropout6(F.relu_(self.fc6(x.flatten(1))))
        x = self.dropout7(F.relu_(self.fc7(x)))
        return self.fc8(x)

    def _initialize(self) -> None:
        """Initialize linear layers as Caffe does, and convolutions with the variance for rectifiers (He et al. 2015).

        Caffe's convolutions begin for pixels of up to 255; of normalized pixels, nothing would reach the last layer.
        """
        for name, layer in self.named_children():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                else:
                    nn.init.normal_(layer.weight, std=0.01 if name == "fc8" else 0.005)
                assert layer.bias is not None
                nn.init.zeros_(layer.bias)


def _pooled(side: int) -> int:
    return (side - 3) // 2 + 1
