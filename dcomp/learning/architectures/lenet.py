"""The two LeNets of the paper's tables 2 and 3, for 28x28 grayscale images and ten classes."""

from torch import Tensor, nn
from torch.nn import functional as F


class LeNet300(nn.Module):
    """LeNet-300-100: three fully connected layers, 266,610 parameters (LeCun et al. 1998)."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(784, 300)
        self.fc2 = nn.Linear(300, 100)
        self.fc3 = nn.Linear(100, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) -> logits (n, 10)."""
        x = F.relu(self.fc1(images.flatten(1)))
        x = F.relu(self.fc2(x))
        return self.fc3(x)


class LeNet5(nn.Module):
    """LeNet-5 as Caffe ships it: no nonlinearity but pooling after a convolution, 431,080 parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.fc1 = nn.Linear(800, 500)
        self.fc2 = nn.Linear(500, 10)

    def forward(self, images: Tensor) -> Tensor:
        """Images (n, 1, 28, 28) -> logits (n, 10)."""
        x = F.max_pool2d(self.conv1(images), 2)
        x = F.max_pool2d(self.conv2(x), 2)
        x = F.relu(self.fc1(x.flatten(1)))
        return self.fc2(x)
