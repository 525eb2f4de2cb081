import pytest

from dcomp.errors import UsageError
from dcomp.settings import loop_sections


def read(prune=None, quantize=None, *, in_steps=False):
    return loop_sections.read(prune, quantize, in_steps=in_steps)


def test_sections_have_the_keys_of_a_recipe_and_need_no_epochs():
    (prune,), (quantize,) = read(
        {"sparsity": 0.9, "until": 10, "kinds": ["linear"], "seed": 3}, {"fc_bits": 5, "start": 12, "lambda": 0.01}
    )
    assert (prune.sparsity, prune.mask_schedule.moves()[-1], prune.seed) == (0.9, 10, 3)
    assert (quantize.bits_of_kind, quantize.start, quantize.rate_weight) == ({"linear": 5}, 12, 0.01)


def test_sections_come_in_lists():
    prune, quantize = read([{"sparsity": 0.9, "at": "1,2.5"}, {"count": 5, "schedule": "oneshot"}], [])
    assert [section.mask_schedule.moves() for section in prune] == [[1, 2.5], [0]]
    assert quantize == []
    assert read() == ([], [])


def test_rules_of_layers_may_be_mappings():
    (prune,), (quantize,) = read({"layer": {"^fc": 0.5, "conv": 0.2}, "until": 3}, {"bits": {"^fc": 5}})
    assert prune.layer == ("^fc=0.5", "conv=0.2")
    assert quantize.bits == ("^fc=5",)


def test_times_in_steps_need_the_steps_between_moves():
    with pytest.raises(UsageError, match=r"^prune\.every: times are steps, as there is no steps_per_epoch: give the"):
        read({"sparsity": 0.9, "until": 1000}, in_steps=True)
    (prune,), _ = read({"sparsity": 0.9, "until": 1000, "every": 250}, in_steps=True)
    assert prune.mask_schedule.moves() == [0, 250, 500, 750, 1000]


@pytest.mark.parametrize(
    ("prune", "message"),
    [
        ({"sparsity": 0.9}, "prune.until: nothing says how long your loop trains: give the time of the last move"),
        ({"sparsity": 0.9, "until": 3, "lr": 0.1}, "prune.lr: your loop does that: leave it out"),
        ({"sparsity": 0.9, "until": 3, "epochs": 5}, "prune.epochs: your loop does that: leave it out"),
        ({"sparsity": 0.9, "until": 3, "rewind": "x"}, "prune.rewind: a loop does not go back"),
        ({"sparsity": 0.9, "until": 3, "provenance": "none"}, "prune.provenance: save takes the metadata"),
        ({"sparsity": 0.9, "until": "soon"}, "prune.until: input should be a valid number"),
        ({"sparsity": 0.9, "start": 5, "until": 3}, "prune: start <= until < epochs must hold, not 5 <= 3"),
        ({"sparsity": 0.9, "until": 3, "untill": 3}, "prune.untill: there is no such key; did you mean until?"),
        ("sparsity", r"prune: give a dictionary, like dict\(sparsity=0.9, until=10\), or a list of them, not 'spars"),
        ([{"sparsity": 0.9, "until": 3}, {"until": 3}], r"prune\.2: give a sparsity, like 0\.9, or a count"),
    ],
    ids=str,
)
def test_a_mistake_is_one_error(prune, message):
    with pytest.raises(UsageError, match=f"^{message}"):
        read(prune)


def test_all_mistakes_are_in_one_message():
    with pytest.raises(UsageError) as caught:
        read({"sparsity": 90, "until": 3, "data": "mnist"}, {"start": 2})
    assert str(caught.value).splitlines() == [
        "the compressor has 3 mistakes:",
        "  prune.data: your loop does that: leave it out",
        "  prune.sparsity: must be at least 0 and below 1, not 90; did you mean 0.9?",
        "  quantize: say how many bits, like bits 5 (--bits 5), or conv_bits and fc_bits",
    ]
