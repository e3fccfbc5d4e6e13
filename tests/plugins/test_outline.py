"""Networks that are tried: in outline or on the CPU, none too deep, and nothing is left behind."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from harness.plugins.outline import MOST_PARAMETERS, in_outline, outlining, with_values


@pytest.mark.parametrize("tried", [in_outline, with_values])
def test_a_network_of_too_many_layers_is_refused_before_it_is_whole(tried):
    layers = []

    def construct() -> nn.Module:
        assert outlining()
        layers.extend(nn.Linear(1, 1) for _ in range(MOST_PARAMETERS))
        return nn.Sequential(*layers)

    with pytest.raises(ValueError, match="more than 5,000 tensors of weights; make it less deep"):
        tried(construct)
    assert not outlining()
    assert sum(1 for _ in nn.Sequential(*(nn.Linear(1, 1) for _ in range(MOST_PARAMETERS)))) == MOST_PARAMETERS


def test_one_that_asks_for_values_gets_them_and_is_in_outline_all_the_same():
    network = in_outline(lambda: nn.Linear(2, int(torch.ones(1).sum().item()) + 1))
    assert (network.out_features, network.weight.device.type) == (2, "meta")


def test_values_are_drawn_from_nobody_elses_numbers():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    assert with_values(lambda: nn.Linear(9, 9)).weight.device.type == "cpu"
    assert torch.equal(torch.rand(1), expected)
