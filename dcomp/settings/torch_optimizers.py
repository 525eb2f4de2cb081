"""The optimizers of torch by name, and the options that each takes from settings. Settings import no torch."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class OptimizerKind:
    """An optimizer of `torch.optim`.

    Attributes:
        class_name: its name there.
        takes_momentum: whether it has an option momentum.
        takes_weight_decay: whether it has an option weight_decay.
    """

    class_name: str
    takes_momentum: bool = False
    takes_weight_decay: bool = True


OPTIMIZERS = {
    "sgd": OptimizerKind("SGD", takes_momentum=True),
    "adam": OptimizerKind("Adam"),
    "adamw": OptimizerKind("AdamW"),
    "adadelta": OptimizerKind("Adadelta"),
    "adafactor": OptimizerKind("Adafactor"),
    "adagrad": OptimizerKind("Adagrad"),
    "adamax": OptimizerKind("Adamax"),
    "asgd": OptimizerKind("ASGD"),
    "muon": OptimizerKind("Muon", takes_momentum=True),
    "nadam": OptimizerKind("NAdam"),
    "radam": OptimizerKind("RAdam"),
    "rmsprop": OptimizerKind("RMSprop", takes_momentum=True),
    "rprop": OptimizerKind("Rprop", takes_weight_decay=False),
}
"""The optimizers by the name that settings have for them."""

REFUSED = {
    "lbfgs": "it computes the loss several times in a step, which no training here does",
    "sparseadam": "it needs sparse gradients, which no training here has",
}
"""The other optimizers of torch, and why they are refused."""

WITH_OPTIONS_HERE = ("lr", "momentum", "weight_decay")
"""Arguments of optimizers that have options of their own."""

WORDS = {"true": True, "false": False, "none": None}

OptionValue = float | bool | str | None


def parsed_option(text: str) -> tuple[str, OptionValue | tuple[OptionValue, ...]]:
    """Read `KEY=VALUE`; a value is a number, true, false, none or a word, or several of them between commas.

    Raises:
        ValueError: the text has another form, a number is not finite, or the key has an option of its own.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.isidentifier() or not value:
        raise ValueError(f"{text!r} is not of the form KEY=VALUE, like betas=0.9,0.99")
    if key in WITH_OPTIONS_HERE:
        raise ValueError(f"{key} of the optimizer has an option of that name: give {key} itself")
    values = tuple(_value(part) for part in value.split(","))
    if not all(math.isfinite(part) for part in values if isinstance(part, float)):
        raise ValueError(f"{value!r} in {text!r} is not finite")
    return key, values if len(values) > 1 else values[0]


def _value(text: str) -> OptionValue:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def parse_as_options(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts as they are.

    Raises:
        ValueError: one is not an option of an optimizer, or two have the same key.
    """
    keys = [parsed_option(text)[0] for text in texts]
    if repeated := [key for number, key in enumerate(keys) if key in keys[:number]]:
        raise ValueError(f"{repeated[0]} is given twice")
    return texts
