"""When a training may end before its last epoch. It needs no torch."""

from dcomp.progress.observer import ChosenEpoch
from dcomp.settings import LearningSettings


def is_over(settings: LearningSettings, choice: ChosenEpoch) -> bool:
    """Tell whether the epochs since the best one are as many as the settings wait for.

    Epochs that cannot be the best, like those before the last move of the masks, do not count.

    Args:
        settings: with `early_stop`, or without one: then a training is never over before its last epoch.
        choice: of the epochs that are done.
    """
    if settings.early_stop is None or choice.val_judged is None or choice.epochs < settings.min_epochs:
        return False
    return choice.epochs - max(choice.epoch, choice.first - 1) >= settings.early_stop
