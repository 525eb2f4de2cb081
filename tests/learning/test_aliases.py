from torch import nn

from dcomp.learning.aliases import missing_names


def test_one_name_of_a_tied_parameter_is_enough():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    state = model.state_dict(keep_vars=True)
    assert missing_names(state, ["1.weight", "0.bias", "other"]) == ["1.bias"]
    assert missing_names(state, []) == list(state)
