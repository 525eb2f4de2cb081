"""The loss: cross-entropy with the labels, and divergence from a teacher's answers to the same images."""

from torch import Tensor, nn
from torch.nn import functional as F

from dcomp.learning.devices import in_precision
from dcomp.settings import LearningSettings


class Loss:
    """The mean loss of a batch, in nats.

    With a teacher it is (1 - alpha) * cross-entropy + alpha * T^2 * KL(teacher || network), both softened by the
    temperature T; T^2 keeps the size of the second gradient (Hinton et al. 2015, "Distilling the Knowledge in a Neural
    Network", section 2).
    """

    def __init__(self, settings: LearningSettings, teacher: nn.Module | None = None) -> None:
        """Freeze the teacher, if there is one."""
        self._settings = settings
        self._teacher = teacher.eval().requires_grad_(False) if teacher is not None else None

    def __call__(self, images: Tensor, logits: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of `logits`, shape (n, classes), that a network gives for images."""
        settings = self._settings
        hard = F.cross_entropy(logits, labels, label_smoothing=settings.label_smoothing)
        if self._teacher is None:
            return hard
        with in_precision(images.device, settings.precision):
            answers = self._teacher(images)
        soft = F.kl_div(
            F.log_softmax(logits / settings.temperature, 1),
            F.log_softmax(answers.float() / settings.temperature, 1),
            reduction="batchmean",
            log_target=True,
        )
        return (1 - settings.alpha) * hard + settings.alpha * settings.temperature**2 * soft
