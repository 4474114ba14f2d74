"""The types of the columns of `results.csv`."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from ._errors import Damaged

if TYPE_CHECKING:
    import pandas as pd

COUNTS = {"seed", "steps", "clip_skip", "height", "width", "calls", "evaluations", "taken_over", "alternates_from"}
DECIMALS = {"strength", "aesthetic_score", "negative_aesthetic_score", "seconds", "saturation", "contrast", "clipped", "diversity", "diversity.bits"}
DECIMALS_BEGIN = ("right.", "seen.")
SWITCHES = {"weights", "ema"}

TEXTS = {"prompt", "negative", "prompt_lost", "negative_lost"}
"""Texts that are empty where there is nothing to say."""

SETTINGS = {
    *("long_prompts", "features", "sampler", "spacing", "image", "mask", "fit", "reading", "edits", "model"),
    *("revision", "variant", "family", "text_encoder", "text_encoder_2", "unet", "vae", "tokenizer", "tokenizer_2"),
    *("config", "embeddings", "loras", "ignore"),
    *("prompt_2", "negative_2", "empty_negative", "original_size", "crop", "target_size", "negative_original_size"),
    *("negative_crop", "negative_target_size", "vae_dtype"),
    *("dtype", "device", "kernels", "failure", "cell", "trace", "picture"),
}
"""Texts that may be not set, which is NA."""

# Numbers as the program writes them. Other spellings (007, 1.50) can only be words of a spec, and stay text.
WHOLE = re.compile(r"-?(0|[1-9]\d*)")
DECIMAL = re.compile(r"-?(0|[1-9]\d*)(\.0|\.\d*[1-9])?(e-?\d+)?")


def column(pd, name: str, texts: list[str], path: Path) -> "pd.Series":
    """A column of a table, with the type that its name says, or that all of its values have."""
    try:
        return pd.Series(typed(pd, name, texts), name=name)
    except (ValueError, OverflowError) as error:
        raise Damaged(f"{path}: column {name}: {error}") from error


def typed(pd, name: str, texts: list[str]):
    """The values of a column. A ValueError names one that is not of the column's type."""
    if name in COUNTS:
        return counts(pd, texts)
    if name in DECIMALS or name.startswith(DECIMALS_BEGIN):
        return decimals(pd, texts)
    if name in SWITCHES:
        return switches(pd, texts)
    if name in TEXTS:
        return pd.array(texts, dtype="string")
    if name in SETTINGS:
        return pd.array([text or None for text in texts], dtype="string")
    return guessed(pd, name, texts)


def guessed(pd, name: str, texts: list[str]):
    """The values of guidance, of an option of the scheduler, or of a word that varies: numbers if all of them are."""
    given = [text for text in texts if text]
    if given and name != "guidance" and all(WHOLE.fullmatch(text) for text in given):
        return counts(pd, texts)
    if given and all(DECIMAL.fullmatch(text) for text in given):
        return decimals(pd, texts)
    if given and set(given) <= {"true", "false"}:
        return switches(pd, texts)
    is_option = name == "guidance" or name.startswith("scheduler.")
    return pd.array([text or (None if is_option else "") for text in texts], dtype="string")


def counts(pd, texts: list[str]):
    """Whole numbers with all their digits. A seed may need 64 bits without a sign."""
    numbers = [int(text) if text else None for text in texts]
    sign = "u" if any(number is not None and number > 2**63 - 1 for number in numbers) else ""
    if None in numbers:
        return pd.array(numbers, dtype=f"{sign.upper()}Int64")
    return pd.Series(numbers, dtype=f"{sign}int64")


def decimals(pd, texts: list[str]):
    """Numbers; NaN where one is not defined."""
    return pd.Series([float(text) if text else float("nan") for text in texts], dtype="float64")


def switches(pd, texts: list[str]):
    """Truth values."""
    known = {"true": True, "false": False, "": None}
    other = [text for text in texts if text not in known]
    if other:
        raise ValueError(f"{other[0]!r}: expected true or false")
    return pd.array([known[text] for text in texts], dtype="boolean")
