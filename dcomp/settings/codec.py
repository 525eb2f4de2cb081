"""Settings of `dcomp encode` and `dcomp report`."""

from pydantic import (
    Field,
)

from dcomp.settings.base import Settings
from dcomp.settings.fields import LevelName


class EncodeSettings(Settings):
    """`dcomp encode`: it is lossless, and tries several encodings to find the smallest."""

    level: LevelName = Field("default", description="How hard to try for fewer bytes; all levels decode alike.")


class ReportSettings(Settings):
    """`dcomp report`."""

    min_ratio: float | None = Field(None, gt=0, description="Exit 3 if the ratio of the whole file is below.")
