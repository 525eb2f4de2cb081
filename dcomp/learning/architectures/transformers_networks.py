"""Networks of Transformers, built from the config.json of a folder, or from the config that a checkpoint records.

A network is one of the library's own classes, with random weights: neither weights nor code are read from the folder or
downloaded. A config may come from anyone, so what would do that is left out of it.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from dcomp.checkpoints import folders
from dcomp.checkpoints.checkpoint import Checkpoint
from dcomp.errors import ArchitectureError, first_line, reading
from dcomp.settings.fields import CONFIG_NAME, TRANSFORMERS, config_of_transformers

LEFT_OUT = {
    *("auto_map", "custom_pipelines", "quantization_config", "use_pretrained_backbone", "use_kernels"),  # download
    *("attn_implementation", "_attn_implementation", "_attn_implementation_internal"),  # may name code to download
    *("experts_implementation", "_experts_implementation", "_experts_implementation_internal"),
    *("checkpoint_path", "pretrained", "pretrained_cfg"),  # arguments of timm, which read weights
    *("dtype", "torch_dtype", "transformers_version", "_name_or_path", "_commit_hash"),  # not of the network's shape
}
"""Entries of a config, or of configs in it, that do not count."""

MAX_MODULES = 100_000
"""The most layers and parts of a network, and labels; a config may ask for endlessly many."""

MAX_NESTING = 32
"""Levels of configs and lists in a config at most."""


def read_config(folder: str) -> dict[str, Any]:
    """Read the config.json of a folder, without the entries that do not count.

    Raises:
        ArchitectureError: no such folder or file, or no JSON object that names a class.
    """
    path = config_of_transformers(folder)
    if not path.parent.is_dir():
        raise ArchitectureError(
            f"{TRANSFORMERS}{folder}: there is no such folder; name one with a config.json, as save_pretrained writes "
            "it (dcomp downloads none)"
        )
    with reading(path, ArchitectureError):
        content = path.read_bytes()
    try:
        config = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(f"{path} is no JSON: {first_line(error)}") from error
    class_name(config, str(path))
    return _without_left_out(config)


def config_beside(checkpoint: Checkpoint) -> dict[str, Any] | None:
    """Return the config that stood beside a checkpoint in its folder, without the entries that do not count.

    Returns:
        None if there was none, or one that names no class, as that of another library.

    Raises:
        CheckpointError: the metadata do not describe a folder.
    """
    text = folders.text_of(checkpoint, CONFIG_NAME)
    try:
        config = json.loads(text) if text is not None else None
        class_name(config, CONFIG_NAME)
    except (ValueError, RecursionError, ArchitectureError):
        return None
    return _without_left_out(config)


def class_name(config: Any, source: str) -> str:
    """Return the name of the class that a config asks for.

    Args:
        config: the content of a config.json.
        source: words for its place, for the error.

    Raises:
        ArchitectureError: it names none.
    """
    names = config.get("architectures") if isinstance(config, dict) else None
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise ArchitectureError(
            f'{source} does not say which class of Transformers it is for: add "architectures", as in '
            '{"architectures": ["GPT2LMHeadModel"]}'
        )
    return names[0]


def make(folder: str, size: int, config: Mapping[str, Any] | None = None, **others: object) -> nn.Module:
    """Make a network with random weights, in single precision.

    Args:
        folder: has the config.json, unless `config` is given.
        size: height and width of images, which the config decides.
        config: the content of a config.json, without the entries that do not count.
        others: arguments of other networks.

    Raises:
        ArchitectureError: no such class, or it does not take the config; or there are other arguments.
    """
    if others:
        raise ArchitectureError(f"{TRANSFORMERS}{folder} takes no {' and no '.join(others)}: change its config.json")
    content = _without_left_out(read_config(folder) if config is None else dict(config))
    name = class_name(content, f"the config of {TRANSFORMERS}{folder}")
    network_class = _class(name)
    _check_counts(content)
    try:
        with _limited_modules(), _offline():
            model: nn.Module = network_class(network_class.config_class.from_dict(content))
    except (RuntimeError, MemoryError):  # sizes that no machine has
        raise
    except Exception as error:  # a config may have any mistake
        lines = " ".join(str(error).split())
        raise ArchitectureError(f"Transformers cannot make {name} from its config: {lines}") from error
    return model


def _class(name: str) -> Any:
    """Return a class of Transformers' networks.

    Raises:
        ArchitectureError: the library is missing, or has no such network.
    """
    library = _library()
    network_class: Any = getattr(library, name, None) if name.isidentifier() else None
    is_network = isinstance(network_class, type) and issubclass(network_class, library.PreTrainedModel)
    if not is_network or network_class.config_class is None:
        raise ArchitectureError(
            f"Transformers {library.__version__} has no network {name[:100]!r}; a newer version may have it, and code "
            "of your own is named as package.module:factory"
        )
    return network_class


def _library() -> ModuleType:
    """Import Transformers; beside a torchvision of another build it needs what `vision` declares.

    Raises:
        ArchitectureError: it is missing, or does not load.
    """
    from dcomp.learning import vision  # noqa: F401  # declares operators

    try:
        return import_module("transformers")
    except ImportError as error:
        raise ArchitectureError(
            f"networks of Transformers need that library ({first_line(error)}): pip install 'dcomp[transformers]'"
        ) from error


def _check_counts(value: Any) -> None:
    """Raise ArchitectureError for a config that asks for endless layers or labels, itself or in a config in it."""
    entries = value.items() if isinstance(value, dict) else ()
    for key, item in entries:
        if isinstance(item, int) and ("layer" in key or key == "num_labels") and item > MAX_MODULES:
            raise ArchitectureError(f"the config asks for {item:,} of {key}; at most {MAX_MODULES:,} are made")
        _check_counts(item)


def _without_left_out(value: Any, levels: int = MAX_NESTING) -> Any:
    """Return a config without the entries that do not count, nor those of configs in it.

    Raises:
        ArchitectureError: it nests configs or lists deeper than `levels`.
    """
    if not isinstance(value, dict | list):
        return value
    if not levels:
        raise ArchitectureError(f"the config nests its entries deeper than {MAX_NESTING} levels")
    if isinstance(value, dict):
        return {key: _without_left_out(item, levels - 1) for key, item in value.items() if key not in LEFT_OUT}
    return [_without_left_out(item, levels - 1) for item in value]


@contextmanager
def _offline() -> Iterator[None]:
    """Keep the library off the network in a block: a config may name a repository of another config (`backbone`)."""
    constants: Any = import_module("huggingface_hub.constants")
    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


@contextmanager
def _limited_modules() -> Iterator[None]:
    """Raise ArchitectureError in a block that makes more than `MAX_MODULES` modules."""
    count = 0

    def count_module(*_: object) -> None:
        nonlocal count
        count += 1
        if count > MAX_MODULES:
            raise ArchitectureError(f"the config asks for more than {MAX_MODULES:,} modules")

    hook = register_module_module_registration_hook(count_module)
    try:
        yield
    finally:
        hook.remove()
