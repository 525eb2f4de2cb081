"""Fields of a structure <-> bytes (FORMAT.md, section 1)."""

from dcomp.errors import ContainerError

MAX_VARINT_BYTES = 9
MAX_VARINT = (1 << 7 * MAX_VARINT_BYTES) - 1


def varint(value: int) -> bytes:
    """Return an unsigned integer in groups of seven bits, least significant group first."""
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def string(text: str) -> bytes:
    """Return a text as UTF-8, after its size."""
    encoded = text.encode()
    return varint(len(encoded)) + encoded


class Cursor:
    """Reads a structure's fields in order; no field reaches beyond its end.

    Raises:
        ContainerError: from every method, where the bytes end too early or break the format.
    """

    def __init__(self, data: bytes | memoryview, label: str) -> None:
        """Start at the first byte of `data`; errors name it by `label`."""
        self.data = memoryview(data)
        self._end = len(self.data)
        self.label = label
        self.offset = 0

    @property
    def remaining(self) -> int:
        """Bytes not yet read."""
        return self._end - self.offset

    def take(self, size: int) -> memoryview:
        """Read the next `size` bytes; they are not copied."""
        if size > self.remaining:
            raise ContainerError(f"{self.label} is cut short: {size} bytes expected, {self.remaining} left")
        self.offset += size
        return self.data[self.offset - size : self.offset]

    def byte(self) -> int:
        """Read a u8."""
        if self.offset == self._end:
            self.take(1)  # raises the error
        self.offset += 1
        return self.data[self.offset - 1]

    def u32(self) -> int:
        """Read a u32, little-endian."""
        return int.from_bytes(self.take(4), "little")

    def varint(self, limit: int, name: str) -> int:
        """Read a varint of at most `limit`; errors call it `name`."""
        value = self.byte()
        if value >= 0x80:
            value = self._longer_varint(value & 0x7F, name)
        if value > limit:
            raise ContainerError(f"{self.label}: {name} is {value}, more than {limit}")
        return value

    def _longer_varint(self, value: int, name: str) -> int:
        for group in range(1, MAX_VARINT_BYTES):
            byte = self.byte()
            value |= (byte & 0x7F) << 7 * group
            if byte == 0:
                raise ContainerError(f"{self.label}: {name} is a varint longer than it needs to be")
            if byte < 0x80:
                return value
        raise ContainerError(f"{self.label}: {name} is a varint of more than {MAX_VARINT_BYTES} bytes")

    def string(self, name: str) -> str:
        """Read a string; errors call it `name`."""
        size = self.varint(self.remaining, f"size of {name}")
        try:
            return bytes(self.take(size)).decode()
        except UnicodeDecodeError as error:
            raise ContainerError(f"{self.label}: {name} is not UTF-8") from error

    def finish(self) -> None:
        """Check that nothing is left."""
        if self.remaining:
            raise ContainerError(f"{self.label} has {self.remaining} bytes too many")
