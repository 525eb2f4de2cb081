import ml_dtypes
import numpy as np
import pytest

from dcomp.checkpoints.layers import WEIGHTS, Rule, apply_rules, chosen, kind_of, matches_any, output_of, select
from dcomp.errors import UsageError


@pytest.mark.parametrize(
    ("shape", "kind"), [((20, 1, 5, 5), "conv"), ((8, 4, 3), "conv"), ((10, 5), "linear"), ((7,), "bias")]
)
def test_the_number_of_dimensions_gives_the_kind(shape, kind):
    assert kind_of("w", np.zeros(shape, np.float32)) == kind
    assert kind_of("w", np.zeros(shape, ml_dtypes.bfloat16)) == kind


@pytest.mark.parametrize("array", [np.zeros((2, 2), np.int64), np.float32(1), np.zeros((0, 3), np.float32)])
def test_integers_scalars_and_empty_tensors_are_no_weights(array):
    assert kind_of("w", np.asarray(array)) is None


def test_running_statistics_are_no_weights():
    assert kind_of("bn.running_var", np.ones(4, np.float32)) is None
    assert kind_of("bn.weight", np.ones(4, np.float32)) == "bias"


def test_select_keeps_the_order_of_the_checkpoint():
    tensors = {"b": np.zeros((2, 2)), "a": np.zeros((2, 2)), "c": np.zeros(2)}
    assert select(tensors, ("linear",)) == ["b", "a"]


def test_the_last_equals_sign_of_a_rule_separates():
    rule = Rule.parse("a=b=0.5")
    assert (rule.pattern.pattern, rule.value) == ("a=b", 0.5)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fc1", "REGEX=VALUE"),
        ("=1", "REGEX=VALUE"),
        ("(=1", "regular expression"),
        ("a=x", "number"),
        ("a=nan", "finite"),
        ("a=inf", "finite"),
    ],
)
def test_a_rule_that_does_not_parse_says_why(text, message):
    with pytest.raises(UsageError, match=message):
        Rule.parse(text)


def test_the_later_of_two_rules_holds():
    assert apply_rules([("fc1",), ("fc2",)], [Rule.parse("fc=1"), Rule.parse("fc2=3")]) == {"fc1": 1, "fc2": 3}


def test_a_rule_without_a_layer_lists_all_layers():
    with pytest.raises(UsageError, match=r"no layer matches 'conv'; there are fc1, fc2"):
        apply_rules([("fc1",), ("fc2",)], [Rule.parse("conv=1")])


def test_a_rule_may_match_any_name_of_a_tensor():
    tied = [("words", "out"), ("fc",)]
    assert apply_rules(tied, [Rule.parse("out=1")]) == {"words": 1}
    assert apply_rules(tied, [Rule.parse("out=1"), Rule.parse("words=2")]) == {"words": 2}
    with pytest.raises(UsageError, match="no layer matches 'conv'; there are words, out, fc"):
        apply_rules(tied, [Rule.parse("conv=1")])


def test_a_rule_may_match_other_names_only():
    assert apply_rules([("fc1",)], [Rule.parse("conv=1"), Rule.parse("fc=2")], ["conv1"]) == {"fc1": 2}


def test_only_and_skip_combine():
    names = [("conv1",), ("conv2",), ("fc1",), ("fc2",)]
    assert chosen(names, [], []) == names
    assert chosen(names, ["fc", "conv2"], []) == names[1:]
    assert chosen(names, ["fc"], ["1$"]) == [("fc2",)]
    with pytest.raises(UsageError, match="no layer matches 'bn'; there are conv1"):
        chosen(names, [], ["bn"])
    assert chosen(names, [], ["bn"], ["bn1"]) == names


def test_only_and_skip_may_match_any_name_of_a_tensor():
    tied = [("words", "out"), ("fc",)]
    assert chosen(tied, ["out"], []) == [("words", "out")]
    assert chosen(tied, [], ["out"]) == [("fc",)]
    with pytest.raises(UsageError, match="only and skip choose none of the layers words, out, fc"):
        chosen(tied, ["out"], ["words"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_of_any_size_are_weights(dtype):
    assert kind_of("w", np.zeros((2, 2), dtype)) == "linear"
    assert kind_of("w", np.zeros((1,), dtype)) == "bias"
    assert kind_of("w", np.zeros((1, 1), dtype)) == "linear"


def test_an_expression_matches_a_part_of_a_name():
    assert matches_any("c1.w", ["conv", "fc1.weight"])
    assert not matches_any("^c1", ["conv", "fc1.weight"])
    assert not matches_any("fc", [])


def test_of_no_tensors_none_is_chosen():
    assert chosen([], [], []) == []
    with pytest.raises(UsageError, match="no layer matches 'fc'; there are none"):
        chosen([], ["fc"], [])


def floats(*shape):
    return np.zeros(shape, np.float32)


@pytest.mark.parametrize(
    ("shapes", "output"),
    [
        ({"fc1": (300, 784), "fc2": (100, 300), "fc3": (10, 100), "fc3.bias": (10,)}, "fc3"),
        ({"classifier": (10, 64), "features": (64, 3, 3, 3), "stem": (3, 3, 3, 3)}, "classifier"),
        ({"fc": (1000, 512), "layer1": (64, 64, 3, 3), "layer4": (512, 512, 3, 3)}, "fc"),
        ({"a": (10, 20), "hidden": (20, 30)}, "a"),  # names in the order of the alphabet
        ({"conv1": (8, 1, 3, 3), "conv2": (4, 8, 3, 3)}, "conv2"),
        ({"square": (5, 5)}, "square"),
        ({"a": (5, 5), "b": (5, 5)}, "b"),
        ({"bias": (5,)}, None),
    ],
)
def test_the_output_layer_feeds_no_other_layer(shapes, output):
    assert output_of({name: floats(*shape) for name, shape in shapes.items()}) == output


def test_a_matrix_is_a_weight_and_a_vector_is_none():
    tensors = {"matrix": floats(2, 3), "vector": floats(3), "kernels": floats(2, 3, 3), "images": floats(2, 3, 3, 3)}
    assert select(tensors, WEIGHTS) == ["matrix", "kernels", "images"]
    assert select(tensors, ("linear",)) == ["matrix"]
    assert select(tensors, ("conv",)) == ["kernels", "images"]
    assert select(tensors, ("bias",)) == ["vector"]
