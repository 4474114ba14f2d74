"""Reading of whole files, with errors that name them."""

import json
from pathlib import Path

from ._errors import Damaged, Error


def read(path: Path) -> bytes:
    """The bytes of a plain file; a link could lead out of the folder."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise Damaged(f"{path}: not a plain file")
    try:
        return path.read_bytes()
    except OSError as error:
        raise Error(f"{path}: {error.strerror}") from error


def parse(text: bytes, path: Path) -> dict:
    """A JSON object in a file."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Damaged(f"{path}: not readable as JSON: {error}") from error
    if not isinstance(value, dict):
        raise Damaged(f"{path}: expected a JSON object, found {type(value).__name__}")
    return value
