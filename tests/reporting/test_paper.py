"""The paper's figures, held against each other: what was typed in wrongly would not add up."""

import pytest

from dcomp.reporting.paper import PAPER

WEIGHTS = {
    "lenet300": [235_200, 30_000, 1_000],
    "lenet5": [500, 25_000, 400_000, 5_000],
    "alexnet": [34_848, 307_200, 884_736, 663_552, 442_368, 37_748_736, 16_777_216, 4_096_000],
    "vgg16": [
        *(1_728, 36_864, 73_728, 147_456, 294_912, 589_824, 589_824, 1_179_648),
        *[2_359_296] * 5,
        *(102_760_448, 16_777_216, 4_096_000),
    ],
}
ROWS = [
    pytest.param(layer, weights, id=f"{name} {layer.layer}")
    for name, network in PAPER.items()
    for layer, weights in zip(network.layers.values(), WEIGHTS[name], strict=True)
]


@pytest.mark.parametrize(("layer", "weights"), ROWS)
def test_a_layer_has_the_weights_of_its_network(layer, weights):
    digits = 1_000_000 if layer.weights >= 1_000_000 else 1000
    assert abs(layer.weights - weights) < digits


@pytest.mark.parametrize(("layer", "weights"), ROWS)
def test_the_rate_of_a_layer_follows_from_its_bits(layer, weights):
    codebook = 100 * 2**layer.weight_bits / weights
    for bits, rate in (
        (layer.weight_bits + layer.index_bits, layer.rate_percent),
        (layer.weight_bits_coded + layer.index_bits_coded, layer.rate_percent_coded),
    ):
        # the paper rounds what is kept to whole percents, and its fillers are not in the table
        assert rate == pytest.approx(layer.kept_percent * bits / 32 + codebook, rel=0.3)


@pytest.mark.parametrize("name", PAPER)
def test_the_totals_of_a_network_are_the_means_of_its_layers(name):
    network, weights = PAPER[name], WEIGHTS[name]

    def mean(figure):
        figures = [getattr(layer, figure) for layer in network.layers.values()]
        return sum(value * count for value, count in zip(figures, weights, strict=True)) / sum(weights)

    assert network.total.kept_percent == pytest.approx(mean("kept_percent"), rel=0.06)
    assert network.total.rate_percent == pytest.approx(mean("rate_percent"), rel=0.07)
    assert network.total.rate_percent_coded == pytest.approx(mean("rate_percent_coded"), rel=0.1)


@pytest.mark.parametrize(
    ("name", "pruned", "shared"), [("lenet300", 12, 32), ("lenet5", 12, 33), ("alexnet", 9, 27), ("vgg16", 13, 31)]
)
def test_the_ratios_are_those_that_the_paper_prints(name, pruned, shared):
    network = PAPER[name]
    assert int(network.total.estimated_ratio_pruned) == pruned
    assert round(network.total.estimated_ratio_shared) == shared
    assert round(network.total.ratio) == network.ratio
    unit = {"KB": 1, "MB": 1000}
    dense, compressed = (float(n) * unit[u] for n, u in (s.split() for s in (network.dense, network.compressed)))
    assert dense / compressed == pytest.approx(network.ratio, rel=0.02)
