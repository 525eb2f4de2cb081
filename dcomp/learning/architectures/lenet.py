"""The two LeNets of the paper's tables 2 and 3; they are made for 28x28 grayscale images and ten classes."""

from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.errors import ArchitectureError


class LeNet300(nn.Module):
    """LeNet-300-100: three fully connected layers, 266,610 parameters (LeCun et al. 1998)."""

    def __init__(self, classes: int, grayscale: bool, size: int, dropout: float) -> None:
        super().__init__()
        self.fc1 = nn.Linear((1 if grayscale else 3) * size * size, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, classes)
        self.dropout1 = nn.Dropout(dropout)
        self.dropout2 = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, size, size)."""
        x = self.dropout1(F.relu(self.fc1(images.flatten(1))))
        x = self.dropout2(F.relu(self.fc2(x)))
        return self.fc3(x)


class LeNet5(nn.Module):
    """LeNet-5 as Caffe ships it: no nonlinearity but pooling after a convolution, 431,080 parameters."""

    def __init__(self, classes: int, grayscale: bool, size: int, dropout: float) -> None:
        super().__init__()
        side = ((size - 4) // 2 - 4) // 2
        if side < 1:
            raise ArchitectureError(f"lenet5 sees images of at least 16x16 pixels, not {size}x{size}")
        self.conv1 = nn.Conv2d(1 if grayscale else 3, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(50 * side * side, 500)
        self.fc2 = nn.Linear(500, classes)
        self.dropout1 = nn.Dropout(dropout)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, channels, size, size)."""
        x = F.max_pool2d(self.conv1(images), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = self.dropout1(F.relu(self.fc1(x.flatten(1))))
        return self.fc2(x)
