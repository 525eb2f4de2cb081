import math

import numpy as np
import pytest
import torch
from torch import nn

from dcomp.learning.architectures import build
from dcomp.learning.dropout import DropoutRule
from dcomp.learning.held_weights import HeldWeights


def test_the_rate_follows_the_root_of_the_kept_part(trial_of):
    model = build("lenet5", {"dropout": 0.4})
    rule = DropoutRule(trial_of(model, torch.zeros(1, 1, 28, 28)))
    rule.apply()
    assert model.dropout1.p == 0.4
    kept = np.zeros((500, 800), bool)
    kept[:125] = True
    HeldWeights(model).mask("fc1.weight", kept)
    HeldWeights(model).mask("conv2.weight", np.zeros((50, 20, 5, 5), bool))
    for _ in range(2):  # from the dense rate each time
        rule.apply()
        assert model.dropout1.p == pytest.approx(0.4 * math.sqrt(0.25))


def test_the_layer_before_is_the_one_that_runs_before(trial_of):
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.dropout, self.last, self.first = nn.Dropout(0.5), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            return self.last(self.dropout(self.first(x)))

    model = Backwards()
    rule = DropoutRule(trial_of(model, torch.zeros(1, 4)))
    HeldWeights(model).mask("last.weight", np.zeros((4, 4), bool))
    rule.apply()
    assert model.dropout.p == 0.5
    HeldWeights(model).mask("first.weight", np.eye(4, dtype=bool))
    rule.apply()
    assert model.dropout.p == 0.25


def test_dropout_of_the_images_themselves_stays(trial_of):
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.1), nn.Linear(4, 2))
    rule = DropoutRule(trial_of(model, torch.zeros(1, 1, 2, 2)))
    with torch.no_grad():
        model[2].weight.zero_()
    rule.apply()
    assert model[1].p == 0.1


def test_dropout_may_follow_attention(trial_of):
    model = nn.Sequential(nn.Linear(8, 8), nn.TransformerEncoderLayer(8, 2, 16, dropout=0.5, batch_first=True))
    rule = DropoutRule(trial_of(model, torch.zeros(1, 3, 8)))
    HeldWeights(model).mask("0.weight", np.zeros((8, 8), bool))
    HeldWeights(model).mask("1.self_attn.out_proj.weight", np.arange(64).reshape(8, 8) < 16)
    rule.apply()
    block = model[1]
    assert (block.dropout1.p, block.dropout.p, block.dropout2.p) == (0.25, 0.5, 0.5)
    assert block.self_attn.dropout == 0.5
