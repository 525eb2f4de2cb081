"""The table of the forms of values, and how a record names its form (FORMAT.md, section 4).

To add a form, write a subclass of `Values` in a new module and give it a line in `FORMS`. Records are read by this
table, and the encoder tries its forms.
"""

from dcomp.coding.planes import Planes
from dcomp.coding.raw import Raw
from dcomp.coding.shared import Shared
from dcomp.coding.values import Values
from dcomp.coding.wire import Cursor
from dcomp.coding.zstd import Zstd
from dcomp.errors import ContainerError

FORMS: dict[int, type[Values]] = {  # in the order in which the encoder tries them
    0: Raw,
    2: Shared,
    3: Planes,
    1: Zstd,
}

FIRST_NUMBER_THAT_FOLLOWS = 4
"""Forms from this number on do not fit into the two bits of the flags."""

NUMBER_FOLLOWS = 64
"""A record has its form's number in bits 1 and 2 of its flags, or, if bit 6 is set, in the byte after the flags."""


def form_head(values: Values) -> tuple[int, bytes]:
    """Return the flags of values with the number of their form, and the bytes that follow the flags."""
    number = next(number for number, form in FORMS.items() if form is type(values))
    if number < FIRST_NUMBER_THAT_FOLLOWS:
        return number << 1 | values.flags, b""
    return NUMBER_FOLLOWS | values.flags, bytes([number])


def form_name(flags: int) -> str:
    """Return the name of the form in a record's flags."""
    return "later form" if flags & NUMBER_FOLLOWS else FORMS[flags >> 1 & 3].__name__.lower()


def parse_form(cursor: Cursor, flags: int) -> type[Values]:
    """Read which form the values of a record have; the cursor stands after the flags.

    Raises:
        ContainerError: the form is reserved.
    """
    number = flags >> 1 & 3
    if flags & NUMBER_FOLLOWS:
        # "If bit 6 is set, bits 1 and 2 must be 0, and the number that follows must be at least 4."
        if number or (number := cursor.byte()) < FIRST_NUMBER_THAT_FOLLOWS:
            raise ContainerError(f"{cursor.label}: reserved bits are set in its flags {flags:#04x}")
        if number not in FORMS:
            raise ContainerError(
                f"{cursor.label}: values of form {number}, a form of a later version of dcomp; a newer dcomp reads it"
            )
    return FORMS[number]
