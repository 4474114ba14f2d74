"""Tokenizer folders with added tokens, and the ids that transformers' CLIPTokenizer makes of prompts with them.

    python data/golden/tokenizer/added.py

writes added.json beside this file: {"made_with", "folders": {NAME: {"files", "cases"}}}. A folder is a copy of
networks/sd1/tokenizer with `files` written over it; null removes a file. A case is a prompt and its 77 ids. The folders are

    old         added_tokens.json, as transformers 4 saved it up to 4.33
    old special the same, with a token that special_tokens_map.json names among additional_special_tokens
    old config  the same, with that list in tokenizer_config.json
    listed      added_tokens_decoder in tokenizer_config.json, as transformers 4 saved it from 4.34, with flags of every kind
    old pad     the same, padded with an added token
    whole       tokenizer.json and tokenizer_config.json alone, as transformers 5 saves them
    gap         added_tokens.json with an id that does not follow the vocabulary: transformers 5 gives the next id in its place
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SD1 = HERE.parent / "networks" / "sd1" / "tokenizer"
sys.path.insert(0, str(HERE.parent / "networks"))

from transformers import AddedToken, CLIPTokenizer

import record

PROMPTS = [
    "a <cat> on the left",
    "a<cat>b <CAT> <Dog> <dog>",
    "a <dog>, a <Dog>",
    "the sks circle SKS sksy",
    "  <pad>  <tail> x",
    "<cat><cat><|endoftext|><cat>",
    "<cat " + "a " * 80 + "<cat>",
]


def flags(content, **given):
    plain = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False, "special": True}
    return {"content": content, **plain, **given}


def main():
    record.quiet()
    config = json.loads((SD1 / "tokenizer_config.json").read_text())
    special = json.loads((SD1 / "special_tokens_map.json").read_text())
    added = {"<cat>": 664, "<Dog>": 665, "sks": 666, "<pad>": 667}
    listed = {
        "662": flags("<|startoftext|>", normalized=True), "663": flags("<|endoftext|>", normalized=True),
        "664": flags("<cat>", special=False, normalized=True), "665": flags("<Dog>"),
        "666": flags("sks", special=False, normalized=True, single_word=True),
        "667": flags("<pad>", lstrip=True), "668": flags("<tail>", special=False, rstrip=True),
    }
    folders = {
        "old": {"added_tokens.json": added},
        "old special": {"added_tokens.json": added,
                        "special_tokens_map.json": {**special, "additional_special_tokens": ["<Dog>", "<tail>"]}},
        "old config": {"added_tokens.json": added,
                       "tokenizer_config.json": {**config, "additional_special_tokens": ["<Dog>", "<tail>"]}},
        "old pad": {"added_tokens.json": added, "special_tokens_map.json": {**special, "pad_token": "<pad>"}},
        "listed": {"tokenizer_config.json": {**config, "added_tokens_decoder": listed,
                                             "additional_special_tokens": ["<Dog>"]}},
        "gap": {"added_tokens.json": {"<cat>": 700}},
    }
    folders["whole"] = saved_by_transformers()
    found = {name: {"files": files, "cases": cases(files)} for name, files in folders.items()}
    text = json.dumps({"made_with": record.made_with(), "folders": found}, indent=1)
    (HERE / "added.json").write_text(text + "\n")


def saved_by_transformers():
    """The files that transformers writes for sd1 with two more tokens."""
    tokenizer = CLIPTokenizer.from_pretrained(SD1)
    tokenizer.add_tokens(["<cat>", AddedToken("<Dog>", special=True)])
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: json.loads(path.read_text()) for path in sorted(Path(folder).glob("*.json"))}
    return {"vocab.json": None, "merges.txt": None, "special_tokens_map.json": None, **files}


def cases(files):
    with tempfile.TemporaryDirectory() as folder:
        for path in SD1.iterdir():
            shutil.copy(path, folder)
        for name, content in files.items():
            path = Path(folder) / name
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_text(json.dumps(content))
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    encode = lambda text: tokenizer(text, padding="max_length", max_length=77, truncation=True).input_ids
    return [{"text": text, "ids": encode(text)} for text in PROMPTS]


if __name__ == "__main__":
    main()
