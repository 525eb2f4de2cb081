"""All settings, stage by stage.

The meaning, default and limits of options and recipe keys are defined here only: the command line derives its options
from these classes, and a recipe its sections.
"""

from dcomp.settings.base import Settings, mistakes
from dcomp.settings.codec import EncodeSettings, ReportSettings
from dcomp.settings.compression import ChosenSettings, PruneSettings, QuantizeSettings
from dcomp.settings.fields import DATA_NAMES, MAX_SEED, NETWORKS, Augment, DataName, Precision
from dcomp.settings.learning import DataSettings, FinetuneSettings, LearningSettings, NetworkSettings, TrainSettings
from dcomp.settings.measuring import EvalSettings, SensitivitySettings

__all__ = [
    "DATA_NAMES",
    "MAX_SEED",
    "NETWORKS",
    "Augment",
    "ChosenSettings",
    "DataName",
    "DataSettings",
    "EncodeSettings",
    "EvalSettings",
    "FinetuneSettings",
    "LearningSettings",
    "NetworkSettings",
    "Precision",
    "PruneSettings",
    "QuantizeSettings",
    "ReportSettings",
    "SensitivitySettings",
    "Settings",
    "TrainSettings",
    "mistakes",
]
