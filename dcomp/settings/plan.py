r"""A plan: a sparsity and a number of bits for each layer, in a YAML file.

::

    prune:
      layer:
      - ^fc1\.weight$=0.9
    quantize:
      bits:
      - ^fc1\.weight$=4

Its sections hold rules (`checkpoints.layers`), each for one name. A recipe may hold the same sections.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dcomp.errors import RecipeError

Stage = Literal["prune", "quantize"]

KEY_OF: dict[Stage, str] = {"prune": "layer", "quantize": "bits"}
"""The one key that each section of a plan has: the setting of that stage which takes rules."""


@dataclass(frozen=True)
class Plan:
    """Sparsities and bits by the names of tensors; other tensors stay as they are."""

    sparsities: Mapping[str, float]
    bits: Mapping[str, int]

    def sections(self) -> dict[str, dict[str, list[str]]]:
        """Return the plan as sections of a recipe; a section without rules is left out."""
        amounts: dict[Stage, Mapping[str, float]] = {"prune": self.sparsities, "quantize": self.bits}
        return {
            stage: {KEY_OF[stage]: [f"^{re.escape(name)}$={amount:g}" for name, amount in by_name.items()]}
            for stage, by_name in amounts.items()
            if by_name
        }

    def as_yaml(self, comment: str) -> str:
        """Return the text of the plan's file, with a comment of one line or more above it."""
        import yaml

        lines = "".join(f"# {line}\n" for line in comment.splitlines())
        return lines + yaml.safe_dump(self.sections(), sort_keys=False, width=1000)


def rules(path: Path, stage: Stage) -> tuple[str, ...]:
    """Return the rules of a plan's file for a stage; none if it has no section for that.

    Raises:
        RecipeError: the file cannot be read, or is no plan.
    """
    from dcomp.settings import yaml_files  # here, not above: the command line starts without a YAML parser

    content = yaml_files.load_mapping(path, "plan")
    if unknown := [str(key) for key in content if key not in KEY_OF]:
        raise RecipeError(f"the plan {path} has sections {' and '.join(KEY_OF)}, not {', '.join(unknown)}")
    if not content:
        raise RecipeError(f"the plan {path} has no section {' or '.join(KEY_OF)}")
    if stage not in content:
        return ()
    section, key = content[stage], KEY_OF[stage]
    if not isinstance(section, dict) or list(section) != [key]:
        raise RecipeError(f"in the plan {path}: {stage} holds {key} and nothing else")
    entries = section[key]
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, str) for entry in entries):
        raise RecipeError(f"in the plan {path}: {stage}.{key} should be a list of REGEX=VALUE")
    return tuple(entries)
