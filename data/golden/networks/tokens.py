"""Small vocabularies in CLIP's format, made from a few sentences written here.

A CLIP vocabulary lists 256 byte letters, the same letters with the end-of-word mark `</w>`, one entry for each
merge, and the two special tokens. `tiny_merges` learns about 150 merges from `SENTENCES`; `padded_merges` goes on
with pairs of letters until the vocabulary has as many entries as the real one. Nothing is taken from a real vocabulary.
"""

import json
from collections import Counter
from pathlib import Path

START = "<|startoftext|>"
END = "<|endoftext|>"
WORD_END = "</w>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"

SENTENCES = """
a large red circle on the left and a small blue square on the right with a white background
the green triangle is above the yellow star and below the black ring
a photo of a cat in a hat and a painting of a dog near the water under the light of the moon
there are three small circles in the middle of the picture and one large square at the top
draw a bright orange shape on a dark gray background without any text or other things
it's an old house by the sea where the children don't play when the weather isn't good
we've seen that they're here and you'll find what i'd like to have when i'm there
an oil painting of a mountain lake in the morning with trees and clouds and long shadows
the left hand and the right hand draw the same line from the bottom to the top
a portrait of a woman reading a letter at the window with soft light and warm colors
"""


def byte_letters():
    """CLIP's and GPT-2's reversible map from a byte to a printable letter, in vocabulary order."""
    printable = list(range(ord("!"), ord("~") + 1)) + list(range(0xA1, 0xAC + 1)) + list(range(0xAE, 0xFF + 1))
    letters = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in letters:
            letters[byte] = chr(256 + len(letters) - len(printable))
    return letters


def learn_merges(text, count):
    """Byte-pair encoding: again and again join the commonest pair of neighbours. Ties go to the first in order."""
    words = Counter(word for word in text.replace("'", " '").split())
    split = {word: list(word[:-1]) + [word[-1] + WORD_END] for word in words}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, parts in split.items():
            for pair in zip(parts, parts[1:]):
                pairs[pair] += words[word]
        if not pairs:
            break
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        split = {word: join(parts, best) for word, parts in split.items()}
    return merges


def join(parts, pair):
    """`parts` with every neighbouring `pair` made one."""
    joined, at = [], 0
    while at < len(parts):
        if tuple(parts[at:at + 2]) == pair:
            joined.append(pair[0] + pair[1])
            at += 2
        else:
            joined.append(parts[at])
            at += 1
    return joined


def tiny_merges():
    return learn_merges(SENTENCES, 150)


def padded_merges(count):
    """The tiny merges, then every two-, three- and four-letter string as a merge of its front part and its last letter."""
    merges = tiny_merges()
    known = {left + right for left, right in merges}
    fronts = list(LETTERS)
    while len(merges) < count:
        longer = []
        for front in fronts:
            for letter in LETTERS:
                for right in (letter, letter + WORD_END):
                    if front + right not in known and len(merges) < count:
                        known.add(front + right)
                        merges.append((front, right))
                longer.append(front + letter)
        fronts = longer
    return merges


def vocabulary(merges):
    """Every entry in the order of its id."""
    letters = list(byte_letters().values())
    joined = [left + right for left, right in merges]
    return letters + [letter + WORD_END for letter in letters] + joined + [START, END]


def token(content):
    return {"content": content, "lstrip": False, "normalized": True, "rstrip": False, "single_word": False}


def write_tokenizer(folder, merges, pad):
    """The four files of a published Stable Diffusion `tokenizer` folder (there is no tokenizer.json).

    As in those files, the padding token of tokenizer_config.json is always `<|endoftext|>`; what counts is
    special_tokens_map.json, which says `!` for Stable Diffusion 2.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    entries = vocabulary(merges)
    assert len(set(entries)) == len(entries)
    ids = {entry: number for number, entry in enumerate(entries)}
    (folder / "vocab.json").write_text(json.dumps(ids, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
    lines = ["#version: 0.2"] + [f"{left} {right}" for left, right in merges]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    special = {"bos_token": token(START), "eos_token": token(END), "pad_token": pad, "unk_token": token(END)}
    marked = {name: {"__type": "AddedToken", **token(text)}
              for name, text in [("bos_token", START), ("eos_token", END), ("unk_token", END)]}
    config = {
        "add_prefix_space": False,
        **marked,
        "do_lower_case": True,
        "errors": "replace",
        "model_max_length": 77,
        "pad_token": END,
        "tokenizer_class": "CLIPTokenizer",
    }
    (folder / "special_tokens_map.json").write_text(json.dumps(special, indent=2) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2) + "\n")
