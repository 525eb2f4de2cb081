"""When a training may end before its last epoch. It needs no torch."""

from collections.abc import Sequence

from dcomp.progress.observer import ChosenEpoch, EpochRecord
from dcomp.settings import LearningSettings


def is_over(settings: LearningSettings, choice: ChosenEpoch, history: Sequence[EpochRecord]) -> bool:
    """Tell whether the epochs since the best one, of equal ones the first, are as many as the settings wait for.

    Epochs that cannot be the best, like those before the last move of the masks, do not count.

    Args:
        settings: with `early_stop`, or without one: then a training is never over before its last epoch.
        choice: of the epochs that are done.
        history: these epochs.
    """
    if settings.early_stop is None or choice.val_judged is None or choice.epochs < settings.min_epochs:
        return False
    ranks = [(record.val_judged, record.val_loss) for record in history]
    best = ranks.index(ranks[choice.epoch - 1], choice.first - 1) + 1 if choice.epoch else 0
    return choice.epochs - max(best, choice.first - 1) >= settings.early_stop
