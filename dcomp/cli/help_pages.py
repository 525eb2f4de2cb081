"""Commands whose help pages say no types: a flag has no word beside it, and an argument has its name alone."""

from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand, TyperGroup

if TYPE_CHECKING:
    _Base = TyperCommand
else:
    _Base = object


class _WithoutTypes(_Base):
    """A command that shows `--force`, not `--force <bool>`, and `INPUT`, not `INPUT <path>`."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Return the parameters and `--help`, each with the words that its help page shows."""
        params = super().get_params(ctx)
        for param in params:
            if isinstance(param, TyperArgument):
                param.display_type_rich = _no_type  # type: ignore[method-assign]
            elif getattr(param, "is_flag", False) and param.metavar is None:
                param.metavar = ""
        return params


def _no_type(ctx: Any) -> None:
    """Return no type, for any context."""


class PlainCommand(_WithoutTypes, TyperCommand):
    """A command with such a help page."""


class PlainGroup(_WithoutTypes, TyperGroup):
    """The program, with such a help page."""
