"""What can go wrong. Every message names the file and, after `hint:`, what would work."""


class Error(Exception):
    """A file or folder that cannot be read, or a question that has no answer in it."""


class Damaged(Error):
    """A file that has changed since it was written, or lacks a part."""


class Unfinished(Error):
    """A file that a run or a sweep writes at its end, and has not written yet."""


class Absent(Error, LookupError):
    """A tensor that the record does not have, or of which there are several."""


def module(name: str, wanted_for: str):
    """Imports a module that only a part of this package needs."""
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = {"PIL.Image": "pillow"}.get(name, name)
        raise Error(f"{wanted_for} need {package}: {error}\nhint: pip install {package}") from error
