"""Mean squared gradients, which approximate the curvature of the loss in each weight.

They are the diagonal of the empirical Fisher information, of whole batches. Pruning a weight w adds w^2 times that to
the loss (Theis et al. 2018, "Faster gaze prediction with dense networks and Fisher pruning", section 2.1).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from dcomp.learning.examples import Draw, Examples
from dcomp.learning.losses import Loss
from dcomp.settings import LearningSettings

BATCHES = 50


def squared_gradients(
    model: nn.Module,
    parameters: Mapping[str, Tensor],
    train: Examples,
    settings: LearningSettings,
    loss: Loss,
    seed: int,
) -> dict[str, Tensor]:
    """Return the mean squared gradient of each parameter over a few batches; no parameter changes.

    Args:
        model: on the device of the examples.
        parameters: of the model, by name.
        train: examples, augmented as in training.
        settings: batch size, augmentation and precision.
        loss: of the gradients.
        seed: draws the examples; the same in all processes, so all get the same gradients.
    """
    squares = [torch.zeros_like(parameter) for parameter in parameters.values()]
    batches = 0
    with _needing_gradients(parameters.values()):
        for value in _losses(model, train, settings, loss, seed):
            gradients = torch.autograd.grad(value, list(parameters.values()))
            torch._foreach_add_(squares, torch._foreach_mul(gradients, gradients))
            batches += 1
    return {name: total / batches for name, total in zip(parameters, squares, strict=True)}


@contextmanager
def _needing_gradients(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Let frozen parameters have gradients in a block."""
    frozen = [parameter for parameter in parameters if not parameter.requires_grad]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


def _losses(model: nn.Module, train: Examples, settings: LearningSettings, loss: Loss, seed: int) -> Iterator[Tensor]:
    """Yield the losses of a few batches, in evaluation mode; the same examples for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    model.eval()
    for batch in train.drawn_batches(Draw(generator, generator, settings.batch_size, settings.augment, last=BATCHES)):
        yield loss(model, batch).value
