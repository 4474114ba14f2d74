"""A shard of a record: a safetensors file, read with numpy alone."""

import zlib
from math import prod
from pathlib import Path

import numpy as np

from ._errors import Damaged
from ._files import parse

# The number formats by their names in safetensors. numpy has no bfloat16, so its bits are read.
FORMATS = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "U8": "u1"}


class Shard:
    """A mapped file and its header. Nothing is read of a tensor until it is asked for."""

    def __init__(self, path: Path) -> None:
        """Opens a shard, whose header is checked against the size of the file."""
        self.path = path
        if path.is_symlink() or not path.is_file():
            raise self.damaged("the shard is missing, or is not a plain file")
        size = path.stat().st_size
        if size < 8:
            raise self.damaged(f"not whole: {size} bytes, fewer than a header has")
        self.bytes = np.memmap(path, dtype="u1", mode="r")
        self.start = 8 + int.from_bytes(self.bytes[:8].tobytes(), "little")
        if self.start > size:
            raise self.damaged(f"not whole: a header to byte {self.start}, and {size} bytes")
        self.header = parse(self.bytes[8 : self.start].tobytes(), path)

    def damaged(self, cause: str) -> Damaged:
        """An error about this file."""
        return Damaged(f"{self.path}: {cause}")

    def numbers(self, stored: dict, shape: list[int]) -> np.ndarray:
        """The numbers of a line's `stored`, in f32 if they are kept as 256 levels or as bfloat16."""
        name, form = stored["name"], stored["dtype"]
        about = self.header.get(name)
        if not isinstance(about, dict):
            raise self.damaged(f"has no tensor {name}")
        if (about.get("dtype"), about.get("shape")) != (form, shape):
            found = f"{about.get('dtype')} {about.get('shape')}"
            raise self.damaged(f"{name}: expected {form} {shape}, found {found}")
        if form not in FORMATS:
            raise self.damaged(f"{name}: number format {form}: expected one of {', '.join(FORMATS)}")
        data = self.data(name, about.get("data_offsets"), prod(shape) * np.dtype(FORMATS[form]).itemsize)
        if zlib.crc32(data) != stored.get("crc32", zlib.crc32(data)):
            raise self.damaged(f"{name}: its bytes have changed since they were recorded")
        return decoded(np.frombuffer(data, FORMATS[form]).reshape(shape), form, stored.get("range"))

    def data(self, name: str, offsets: object, size: int) -> bytes:
        """The bytes of a tensor between two offsets behind the header, of which there must be so many."""
        match offsets:
            case [int(begin), int(end)] if 0 <= begin <= end <= len(self.bytes) - self.start:
                pass
            case _:
                raise self.damaged(f"{name}: not whole: bytes {offsets} of {len(self.bytes) - self.start}")
        if end - begin != size:
            raise self.damaged(f"{name}: {end - begin} bytes, and its shape needs {size}")
        return self.bytes[self.start + begin : self.start + end].tobytes()


def decoded(numbers: np.ndarray, form: str, limits: list[float] | None) -> np.ndarray:
    """A writable array of stored numbers."""
    if form == "BF16":
        return (numbers.astype("u4") << 16).view(np.float32)
    if form == "U8" and limits is not None:
        low, high = limits
        return low + numbers.astype(np.float32) * np.float32((high - low) / 255)
    return numbers.astype(numbers.dtype.newbyteorder("="))
