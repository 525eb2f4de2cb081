"""The paper's tables 1 to 5, layer by layer (Han, Mao, Dally 2015, arXiv:1510.00149, v5)."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class PaperRow:
    """A row of tables 2 to 5, as the paper prints it.

    Attributes:
        layer: name of the layer in the paper.
        weights: number of weights, in the three digits or fewer that are printed.
        kept_percent: weights kept, after P.
        weight_bits: bits of a weight after P+Q.
        weight_bits_coded: bits of a weight after P+Q+H.
        index_bits: bits of an index after P+Q.
        index_bits_coded: bits of an index after P+Q+H.
        rate_percent: compressed size in percent of the dense one, after P+Q.
        rate_percent_coded: likewise, after P+Q+H.
    """

    layer: str
    weights: int
    kept_percent: float
    weight_bits: float
    weight_bits_coded: float
    index_bits: float
    index_bits_coded: float
    rate_percent: float
    rate_percent_coded: float

    @property
    def estimated_ratio_pruned(self) -> float:
        """Return the weights over the kept weights, after P."""
        return 100 / self.kept_percent

    @property
    def estimated_ratio_shared(self) -> float:
        """Return the dense size over the compressed size, after P+Q."""
        return 100 / self.rate_percent

    @property
    def ratio(self) -> float:
        """Return the dense size over the compressed size, after P+Q+H."""
        return 100 / self.rate_percent_coded

    def as_dict(self) -> dict[str, object]:
        """Return what the paper prints, and the ratios that its rates come to, as plain data."""
        return {**asdict(self), **{ratio: getattr(self, ratio) for ratio in RATIOS}}


RATIOS = ("estimated_ratio_pruned", "estimated_ratio_shared", "ratio")


@dataclass(frozen=True)
class PaperNetwork:
    """A network of the paper.

    Attributes:
        table: number of the table that its layers stand in.
        layers: rows of the table by the names of the layers in dcomp.
        total: the last row of the table.
        dense, compressed: sizes in table 1.
        dense_error, top1_error: in table 1, of the dense network and of the compressed one, in percent on MNIST's test
            images or ImageNet's validation images.
        ratio: in table 1.
    """

    table: int
    layers: Mapping[str, PaperRow]
    total: PaperRow
    dense: str
    compressed: str
    dense_error: float
    top1_error: float
    ratio: int

    def as_dict(self) -> dict[str, object]:
        """Return the row of the whole network, and what table 1 prints, as plain data."""
        table_1 = {key: value for key, value in vars(self).items() if key not in ("layers", "total")}
        return {**self.total.as_dict(), **table_1}


PAPER = {
    "lenet300": PaperNetwork(
        2,
        {
            "fc1": PaperRow("ip1", 235_000, 8, 6, 4.4, 5, 3.7, 3.1, 2.32),
            "fc2": PaperRow("ip2", 30_000, 9, 6, 4.4, 5, 4.3, 3.8, 3.04),
            "fc3": PaperRow("ip3", 1_000, 26, 6, 4.3, 5, 3.2, 15.7, 12.70),
        },
        PaperRow("total", 266_000, 8, 6, 5.1, 5, 3.7, 3.1, 2.49),
        "1070 KB",
        "27 KB",
        1.64,
        1.58,
        40,
    ),
    "lenet5": PaperNetwork(
        3,
        {
            "conv1": PaperRow("conv1", 500, 66, 8, 7.2, 5, 1.5, 78.5, 67.45),
            "conv2": PaperRow("conv2", 25_000, 12, 8, 7.2, 5, 3.9, 6.0, 5.28),
            "fc1": PaperRow("ip1", 400_000, 8, 5, 4.5, 5, 4.5, 2.7, 2.45),
            "fc2": PaperRow("ip2", 5_000, 19, 5, 5.2, 5, 3.7, 6.9, 6.13),
        },
        PaperRow("total", 431_000, 8, 5.3, 4.1, 5, 4.4, 3.05, 2.55),
        "1720 KB",
        "44 KB",
        0.80,
        0.74,
        39,
    ),
    "alexnet": PaperNetwork(
        4,
        {
            "conv1": PaperRow("conv1", 35_000, 84, 8, 6.3, 4, 1.2, 32.6, 20.53),
            "conv2": PaperRow("conv2", 307_000, 38, 8, 5.5, 4, 2.3, 14.5, 9.43),
            "conv3": PaperRow("conv3", 885_000, 35, 8, 5.1, 4, 2.6, 13.1, 8.44),
            "conv4": PaperRow("conv4", 663_000, 37, 8, 5.2, 4, 2.5, 14.1, 9.11),
            "conv5": PaperRow("conv5", 442_000, 37, 8, 5.6, 4, 2.5, 14.0, 9.43),
            "fc6": PaperRow("fc6", 38_000_000, 9, 5, 3.9, 4, 3.2, 3.0, 2.39),
            "fc7": PaperRow("fc7", 17_000_000, 9, 5, 3.6, 4, 3.7, 3.0, 2.46),
            "fc8": PaperRow("fc8", 4_000_000, 25, 5, 4, 4, 3.2, 7.3, 5.85),
        },
        PaperRow("total", 61_000_000, 11, 5.4, 4, 4, 3.2, 3.7, 2.88),
        "240 MB",
        "6.9 MB",
        42.78,
        42.78,
        35,
    ),
    "vgg16": PaperNetwork(
        5,
        {
            "conv1_1": PaperRow("conv1_1", 2_000, 58, 8, 6.8, 5, 1.7, 40.0, 29.97),
            "conv1_2": PaperRow("conv1_2", 37_000, 22, 8, 6.5, 5, 2.6, 9.8, 6.99),
            "conv2_1": PaperRow("conv2_1", 74_000, 34, 8, 5.6, 5, 2.4, 14.3, 8.91),
            "conv2_2": PaperRow("conv2_2", 148_000, 36, 8, 5.9, 5, 2.3, 14.7, 9.31),
            "conv3_1": PaperRow("conv3_1", 295_000, 53, 8, 4.8, 5, 1.8, 21.7, 11.15),
            "conv3_2": PaperRow("conv3_2", 590_000, 24, 8, 4.6, 5, 2.9, 9.7, 5.67),
            "conv3_3": PaperRow("conv3_3", 590_000, 42, 8, 4.6, 5, 2.2, 17.0, 8.96),
            "conv4_1": PaperRow("conv4_1", 1_000_000, 32, 8, 4.6, 5, 2.6, 13.1, 7.29),
            "conv4_2": PaperRow("conv4_2", 2_000_000, 27, 8, 4.2, 5, 2.9, 10.9, 5.93),
            "conv4_3": PaperRow("conv4_3", 2_000_000, 34, 8, 4.4, 5, 2.5, 14.0, 7.47),
            "conv5_1": PaperRow("conv5_1", 2_000_000, 35, 8, 4.7, 5, 2.5, 14.3, 8.00),
            "conv5_2": PaperRow("conv5_2", 2_000_000, 29, 8, 4.6, 5, 2.7, 11.7, 6.52),
            "conv5_3": PaperRow("conv5_3", 2_000_000, 36, 8, 4.6, 5, 2.3, 14.8, 7.79),
            "fc6": PaperRow("fc6", 103_000_000, 4, 5, 3.6, 5, 3.5, 1.6, 1.10),
            "fc7": PaperRow("fc7", 17_000_000, 4, 5, 4, 5, 4.3, 1.5, 1.25),
            "fc8": PaperRow("fc8", 4_000_000, 23, 5, 4, 5, 3.4, 7.1, 5.24),
        },
        PaperRow("total", 138_000_000, 7.5, 6.4, 4.1, 5, 3.1, 3.2, 2.05),
        "552 MB",
        "11.3 MB",
        31.50,
        31.17,
        49,
    ),
}
"""Networks of the paper by the names of the architectures in dcomp."""
