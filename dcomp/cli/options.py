"""Options made from the settings of a stage, and those that every command has."""

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo
from typer.models import ArgumentInfo

from dcomp.progress.resumption import SAVE_EVERY
from dcomp.settings import Settings
from dcomp.settings.panels import NETWORK

FILES_AND_LOGS = "Files and logs"

METAVARS: dict[Any, str] = {int: "N", float: "X", bool: ""}
"""The word for a value in help, by its type, unless the field has one."""

Input = Annotated[
    Path | None, typer.Argument(metavar="INPUT", help="File or folder to read; - or none: standard input.")
]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", metavar="PATH", help="File to write; - is standard output.")
]
Force = Annotated[bool, typer.Option("-f", "--force", metavar="", help="Replace the output if it exists.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", metavar="", help="Show no progress and no notes.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Architecture = Annotated[
    str | None,
    typer.Option(
        "--arch",
        metavar="NAME",
        help="Network, if the checkpoint does not say: a name, transformers:FOLDER or package.module:factory.",
        rich_help_panel=NETWORK,
    ),
]
TrustCode = Annotated[
    bool, typer.Option("--trust-code", metavar="", help="Run the code that checkpoints name as their network or data.")
]
Workers = Annotated[int, typer.Option("-w", "--workers", min=1, metavar="N", help="Processes that encode.")]
Threads = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Threads that compute; those that are free, one for a small network."),
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume", metavar="", help="Continue from the state that Ctrl-C saved.", rich_help_panel=FILES_AND_LOGS
    ),
]
SaveEvery = Annotated[
    float | None,
    typer.Option(
        min=0,
        metavar="SECONDS",
        help=rf"Seconds between saves of the state, at ends of epochs. [dim]\[default: {SAVE_EVERY:g}][/dim]",
        rich_help_panel=FILES_AND_LOGS,
    ),
]
Log = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV file to log each epoch to.", rich_help_panel=FILES_AND_LOGS)
]
TensorBoard = Annotated[
    Path | None,
    typer.Option(
        "--tensorboard", metavar="DIR", help="Folder for TensorBoard's files.", rich_help_panel=FILES_AND_LOGS
    ),
]
WeightsAndBiases = Annotated[
    str | None,
    typer.Option(
        "--wandb", metavar="PROJECT", help="Project of Weights & Biases to log to.", rich_help_panel=FILES_AND_LOGS
    ),
]
Key = Annotated[
    str | None,
    typer.Option(
        metavar="NAME", help="Network to read, where a file of torch has several.", rich_help_panel=FILES_AND_LOGS
    ),
]
MaxMemory = Annotated[
    float, typer.Option("--max-memory", min=0, metavar="GIB", help="Limit of memory for a container, in GiB.")
]
GIB = 1 << 30


def bytes_from_gib(gib: float) -> int:
    """Return a limit in GiB as bytes; a huge limit becomes one that no machine reaches."""
    return int(min(gib, GIB) * GIB)


def options_of(
    settings: type[Settings], *, leave_out: tuple[str, ...] = (), passed_on_to: Callable[..., Any] | None = None
) -> Callable[[Any], Any]:
    """Give a command an option for each field of `settings`, and pass it the validated settings.

    The command takes them as `settings`.

    Args:
        settings: the class of the settings.
        leave_out: fields that the command declares as parameters itself; they are validated too.
        passed_on_to: a function whose keyword-only parameters are options too; the command takes them as `**options`.
    """
    fields = [name for name in _field_names(settings) if name not in leave_out]

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        shown_names = {name: title for name, title in option_names(command).items() if name in leave_out}

        def wrapped(**values: Any) -> Any:
            chosen = {name: values.pop(name) for name in fields}
            chosen |= {name: values[name] for name in leave_out}
            return command(settings=settings.from_options(shown_names, **chosen), **values)

        declared = [*(_parameter(settings, name) for name in fields), *_parameters(command, passed_on_to)]
        signature = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in declared])
        wrapped.__signature__ = signature  # type: ignore[attr-defined]  # what Typer reads
        wrapped.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        wrapped.__name__, wrapped.__doc__ = command.__name__, command.__doc__
        return wrapped

    return decorate


def _parameters(command: Callable[..., Any], passed_on_to: Callable[..., Any] | None) -> list[inspect.Parameter]:
    """Return the parameters that a command declares itself, and those that it passes on."""
    parameters = [p for name, p in inspect.signature(command).parameters.items() if name != "settings"]
    parameters = [p for p in parameters if p.kind != p.VAR_KEYWORD]
    if passed_on_to is None:
        return parameters
    return parameters + [p for p in inspect.signature(passed_on_to).parameters.values() if p.kind == p.KEYWORD_ONLY]


def option_names(command: Callable[..., Any]) -> dict[str, str]:
    """Return the name of each parameter of a command in help: `--data-dir` of an option, `INPUT` of an argument."""
    names = {}
    for name, parameter in inspect.signature(command).parameters.items():
        declared = next((info for info in get_args(parameter.annotation)[1:] if hasattr(info, "param_decls")), None)
        flags = [flag for flag in getattr(declared, "param_decls", None) or () if flag.startswith("--")]
        is_argument = isinstance(declared, ArgumentInfo)
        names[name] = name.upper() if is_argument else flags[0] if flags else f"--{name.replace('_', '-')}"
    return names


def _field_names(settings: type[Settings]) -> list[str]:
    """Return the fields of a class, before those of its bases, as help lists them."""
    classes = [kind for kind in settings.__mro__ if issubclass(kind, Settings)]
    names = [name for kind in classes for name in kind.__annotations__ if name in settings.model_fields]
    return list(dict.fromkeys(names))


def _parameter(settings: type[Settings], name: str) -> inspect.Parameter:
    """Return the option of a field. Its default is None, so that settings know what a person gave."""
    field = settings.model_fields[name]
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    kind = Path if extra.get("metavar") == "FILE" else _option_type(field.annotation)
    option = (field.alias or name).replace("_", "-")
    declared = typer.Option(
        f"--{option}/--no-{option}" if field.annotation == bool | None else f"--{option}",
        help=f"{field.description}{_note(field)}",
        metavar=str(extra.get("metavar") or METAVARS.get(kind, "NAME")),
        rich_help_panel=str(extra["panel"]) if extra.get("panel") else None,
        show_default=False,
    )
    annotation = Annotated[kind | None, declared]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _note(field: FieldInfo) -> str:
    """Return what help says after a description: the values to choose from, and the default."""
    choices = _option_type(field.annotation)
    parts = ["|".join(get_args(choices))] if get_origin(choices) is Literal else []
    default = None if field.is_required() else field.get_default()
    if default is not None and default is not False and default != ():
        values = default if isinstance(default, tuple) else (default,)
        text = ",".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values)
        parts.append(f"default: {text}")
    return rf" [dim]\[{'; '.join(parts)}][/dim]" if parts else ""


def _option_type(annotation: Any) -> Any:
    """Return the type that Typer parses, without constraints and None.

    The option of a list of texts is repeated; commas separate the values of any other list.
    """
    if get_origin(annotation) is Annotated:
        return _option_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _option_type(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is tuple:
        return list[str] if get_args(annotation)[0] is str else str
    return annotation
