"""Options made from the settings of a stage, and those that every command has."""

import inspect
import types
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from typer.models import ArgumentInfo

from dcomp.settings import LearningSettings, Settings

Input = Annotated[Path | None, typer.Argument(metavar="INPUT", help="File to read; - or absent: standard input.")]
Output = Annotated[
    Path | None, typer.Option("-o", "--output", help="File to write, or folder of shards; -: standard output.")
]
Force = Annotated[bool, typer.Option("-f", "--force", help="Replace the output if it exists.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="No progress and no notes on standard error.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Architecture = Annotated[
    str | None, typer.Option("--arch", help="Network of the checkpoint, if it does not say, or package.module:factory.")
]
Workers = Annotated[int, typer.Option("-T", "--workers", min=1, help="Processes that encode at the same time.")]
Threads = Annotated[
    int | None, typer.Option(min=1, help="Threads that compute; those that are free, one for a small network.")
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on from the state of a stopped run.", rich_help_panel="Training")
]
SaveEvery = Annotated[
    float,
    typer.Option(min=0, help="Seconds between saves of the state, at ends of epochs.", rich_help_panel="Training"),
]
Log = Annotated[
    Path | None, typer.Option(metavar="FILE", help="CSV file to log each epoch to.", rich_help_panel="Training")
]
TensorBoard = Annotated[
    Path | None,
    typer.Option("--tensorboard", metavar="DIR", help="Folder for TensorBoard's files.", rich_help_panel="Training"),
]
MaxMemory = Annotated[float, typer.Option("--max-memory", min=0, help="Limit of memory for a container, in GiB.")]
GIB = 1 << 30


def bytes_of(gib: float) -> int:
    """Return a limit in GiB as bytes; one that no machine reaches is one that no machine reaches."""
    return int(min(gib, GIB) * GIB)


METAVARS = {
    "layer": "REGEX=VALUE",
    "bits": "[REGEX=]N",
    "only": "REGEX",
    "skip": "REGEX",
    "kinds": "KIND,...",
    "at": "EPOCH,...",
    "plan": "FILE",
    "data": "NAME",
    "data_dir": "DIR",
    "cache": "DIR",
}
FILES = ("plan",)
"""Fields whose option names a file; they hold what that says."""


def options_of(
    settings: type[Settings], *, leave_out: tuple[str, ...] = (), passed_on_to: Callable[..., Any] | None = None
) -> Callable[[Any], Any]:
    """Give a command an option for each field of `settings`, and pass it the validated settings.

    The command takes them as `settings`.

    Args:
        settings: the class of the settings.
        leave_out: fields that are parameters which the command declares itself, validated with the rest.
        passed_on_to: a function whose keyword-only parameters are options too; the command takes them as `**options`.
    """
    fields = {name: field for name, field in settings.model_fields.items() if name not in leave_out}

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        called = {name: title for name, title in option_names(command).items() if name in leave_out}

        def wrapped(**given: Any) -> Any:
            chosen = {name: given.pop(name) for name in fields}
            chosen |= {name: given[name] for name in leave_out}
            return command(settings=settings.from_options(called, **chosen), **given)

        declared = [*_parameters(command, passed_on_to), *(_parameter(settings, name) for name in fields)]
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
    """Return what a person calls each parameter of a command: `--data-dir` of an option, `INPUT` of an argument."""
    names = {}
    for name, parameter in inspect.signature(command).parameters.items():
        declared = next((info for info in get_args(parameter.annotation)[1:] if hasattr(info, "param_decls")), None)
        flags = [flag for flag in getattr(declared, "param_decls", None) or () if flag.startswith("--")]
        is_argument = isinstance(declared, ArgumentInfo)
        names[name] = name.upper() if is_argument else flags[0] if flags else f"--{name.replace('_', '-')}"
    return names


def _parameter(settings: type[Settings], name: str) -> inspect.Parameter:
    field = settings.model_fields[name]
    default = None if field.is_required() else field.get_default()
    if isinstance(default, tuple):
        default = ",".join(map(str, default)) or None
    trains = issubclass(settings, LearningSettings) and name in LearningSettings.model_fields
    option = (field.alias or name).replace("_", "-")
    declared = typer.Option(
        f"--{option}/--no-{option}" if field.annotation == bool | None else f"--{option}",
        help=field.description,
        metavar="N,..." if _holds_numbers(field.annotation) else METAVARS.get(name),
        rich_help_panel="Training" if trains else None,
    )
    kind = Path if name in FILES else _option_type(field.annotation)
    annotation = Annotated[kind | None, declared]  # type: ignore[valid-type]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _holds_numbers(annotation: Any) -> bool:
    """Whether a field is a tuple of limited numbers."""
    return get_origin(annotation) is tuple and get_origin(get_args(annotation)[0]) is Annotated


def _option_type(annotation: Any) -> Any:
    """The type that Typer parses: without constraints and None; rules repeat the option, commas separate all else."""
    if get_origin(annotation) is Annotated:
        return _option_type(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return _option_type(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is tuple:
        return list[str] if get_args(annotation)[0] is str else str
    return annotation
