"""How the command line shows an option: its panel in the help, and what stands for its value."""

from pydantic.config import JsonDict

AMOUNT = "How many weights"
WHICH = "Which weights"
MOVES = "When masks move"
VALUES = "Which shared values"
TRAINING = "Training"
DATA = "Data"
NETWORK = "Network"
MACHINE = "Machine"
SEED_AND_NOTES = "Seed and notes"


def shown(panel: str = "", metavar: str = "") -> JsonDict:
    """Return the `json_schema_extra` of a field: how help shows its option.

    Args:
        panel: title of the panel in the help; by default the first panel.
        metavar: what stands for the value, like `REGEX`; `FILE` for a field that is read from a file.
    """
    return {"panel": panel, "metavar": metavar}
