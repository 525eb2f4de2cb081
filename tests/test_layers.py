import ml_dtypes
import numpy as np
import pytest

from dcomp.errors import UsageError
from dcomp.layers import Rule, apply_rules, chosen, finds, kind_of, select


@pytest.mark.parametrize(
    ("shape", "kind"), [((20, 1, 5, 5), "conv"), ((8, 4, 3), "conv"), ((10, 5), "linear"), ((7,), "bias")]
)
def test_kind_is_read_from_the_number_of_dimensions(shape, kind):
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


def test_where_two_rules_meet_the_later_one_holds():
    assert apply_rules([("fc1",), ("fc2",)], [Rule.parse("fc=1"), Rule.parse("fc2=3")]) == {"fc1": 1, "fc2": 3}


def test_a_rule_without_a_layer_lists_the_layers_there_are():
    with pytest.raises(UsageError, match=r"no layer matches 'conv'; there are fc1, fc2"):
        apply_rules([("fc1",), ("fc2",)], [Rule.parse("conv=1")])


def test_a_rule_may_find_any_name_of_a_tensor_and_gives_its_value_to_the_first():
    tied = [("words", "out"), ("fc",)]
    assert apply_rules(tied, [Rule.parse("out=1")]) == {"words": 1}
    assert apply_rules(tied, [Rule.parse("out=1"), Rule.parse("words=2")]) == {"words": 2}
    with pytest.raises(UsageError, match="no layer matches 'conv'; there are words, out, fc"):
        apply_rules(tied, [Rule.parse("conv=1")])


def test_a_rule_that_finds_only_other_names_gives_nothing():
    assert apply_rules([("fc1",)], [Rule.parse("conv=1"), Rule.parse("fc=2")], ["conv1"]) == {"fc1": 2}


def test_only_and_skip_together_leave_what_the_first_finds_and_the_second_does_not():
    found = [("conv1",), ("conv2",), ("fc1",), ("fc2",)]
    assert chosen(found, [], []) == found
    assert chosen(found, ["fc", "conv2"], []) == found[1:]
    assert chosen(found, ["fc"], ["1$"]) == [("fc2",)]
    with pytest.raises(UsageError, match="no layer matches 'bn'; there are conv1"):
        chosen(found, [], ["bn"])
    assert chosen(found, [], ["bn"], ["bn1"]) == found


def test_only_and_skip_may_find_any_name_of_a_tensor():
    tied = [("words", "out"), ("fc",)]
    assert chosen(tied, ["out"], []) == [("words", "out")]
    assert chosen(tied, [], ["out"]) == [("fc",)]
    with pytest.raises(UsageError, match="only and skip leave none of the layers words, out, fc"):
        chosen(tied, ["out"], ["words"])


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_of_any_size_are_weights(dtype):
    assert kind_of("w", np.zeros((2, 2), dtype)) == "linear"
    assert kind_of("w", np.zeros((1,), dtype)) == "bias"
    assert kind_of("w", np.zeros((1, 1), dtype)) == "linear"


def test_an_expression_finds_a_part_of_a_name():
    assert finds("c1.w", ["conv", "fc1.weight"])
    assert not finds("^c1", ["conv", "fc1.weight"])
    assert not finds("fc", [])


def test_nothing_to_choose_from_leaves_nothing():
    assert chosen([], [], []) == []
    with pytest.raises(UsageError, match="no layer matches 'fc'; there are none"):
        chosen([], ["fc"], [])
