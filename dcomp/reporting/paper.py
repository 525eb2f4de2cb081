"""What the paper's tables 1 to 5 say of its networks as a whole (Han, Mao, Dally 2015, arXiv:1510.00149)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """A compressed network of the paper's. Figures are as in `sizes.Row`; the ratio is the paper's estimate.

    Attributes:
        top1_error: in percent, on MNIST's test images or ImageNet's validation images.
    """

    kept_percent: float
    weight_bits: float
    weight_bits_coded: float
    index_bits: float
    index_bits_coded: float
    ratio: float
    top1_error: float


PAPER = {
    "lenet300": Published(8, 6, 5.1, 5, 3.7, 40, 1.58),
    "lenet5": Published(8, 5.3, 4.1, 5, 4.4, 39, 0.74),
    "alexnet": Published(11, 5.4, 4, 4, 3.2, 35, 42.78),
    "vgg16": Published(7.5, 6.4, 4.1, 5, 3.1, 49, 31.17),
}
"""By the name that the network has here."""
