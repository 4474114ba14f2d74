"""Prompts and the ids that transformers' CLIPTokenizer makes of them, with the tiny vocabulary of data/golden/networks.

    python data/golden/networks/make.py     first, if its tokenizers are not there
    python data/golden/tokenizer/make.py

writes cases.json beside this file: {"made_with", "tokenizers", "differences", "cases": [..]}, and a case is

    name       what it tries
    text       the prompt
    repeat     the prompt is `text` this many times over (1 but for very long ones)
    sd1, sd2   77 ids each (padding="max_length", truncation=True), by networks/sd1/tokenizer and networks/sd2/tokenizer
    original   only where it differs from sd1: the 77 ids of the tokenizer that OpenAI published with CLIP, padded like sd1.
               Written anew here, without its first step (the ftfy package, which mends garbled text).

`differences` says in words where they part. A Rust tokenizer should give sd1 and sd2: those are what a diffusers pipeline feeds.
"""

import html
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
NETWORKS = HERE.parent / "networks"
sys.path.insert(0, str(NETWORKS))

import regex
from transformers import CLIPTokenizer

import record
import tokens

LENGTH = 77

DIFFERENCES = [
    "transformers composes accents (NFC); the original leaves them as they are, so e + U+0301 gives other ids. (ftfy would compose too.)",
    "transformers does not undo HTML escapes such as &amp; and the original does, twice.",
    "Lower case: a capital sigma at the end of a word becomes a final sigma in Python and an ordinary one in transformers.",
    "A special token in the text is its id. sd1: only in exactly that spelling, since its padding token, the plain string "
    "<|endoftext|> of special_tokens_map.json, replaces the end token that would match after lower-casing; <|ENDOFTEXT|> is "
    "spelled out, and <|STARTOFTEXT|> is not. sd2: both match in capitals too. Original: both match in capitals too.",
    "A spelled out <|endoftext|> comes in three words, <| endoftext |>, since the ByteLevel step splits once more with GPT-2's pattern.",
    "sd2 pads with !, which makes ! a special token: every ! of a prompt, alone or within !! or a!b, is id 0 and not id 256 (!</w>).",
    "What is too long is cut to the first 75 tokens, and the end token is kept, in all three.",
]

CASES = [
    ("empty", ""),
    ("one space", " "),
    ("plain", "a large red circle on the left, white background"),
    ("capitals", "A Large RED Circle"),
    ("punctuation", "a cat, a dog; a hat. (a ring) [a star] {x} - a/b _under_score_ #1 $2 @c %d ^e &f *g +h =i ~j `k"),
    ("exclamation", "hello! a cat!! a!b !"),
    ("digits", "3 circles, 12 squares and 2024 stars 3.14"),
    ("contractions", "it's a dog's hat, don't we've they're i'd i'm you'll"),
    ("capital contractions", "IT'S DON'T I'M"),
    ("lone apostrophes", "'s 't ' '' 'a 'tis rock'n'roll"),
    ("curly apostrophe", "it\u2019s"),
    ("repeated spaces", "  a   cat    in  a hat   "),
    ("line breaks and tabs", "a\ncat\n\nin\ta\r\nhat\t\t"),
    ("wide spaces", "a\u00a0cat\u3000in\u2003a\u2028hat\u0085on"),
    ("zero width", "a\u200bcat\u200d in\ufeff a\u00adhat"),
    ("information separators", "a\u001ccat\u001dx\u001ey\u001fz"),
    ("control characters", "a\u0000b\u0007c\u001b[0md\u007fe"),
    ("accents composed", "caf\u00e9 na\u00efve \u00c5ngstr\u00f6m \u00fcber"),
    ("accents decomposed", "cafe\u0301 nai\u0308ve A\u030angstro\u0308m u\u0308ber"),
    ("lone combining mark", "\u0301a \u0301"),
    ("ligature and fractions", "\ufb01sh \u00bd x\u00b2 \u2460 \u216b"),
    ("dotted capital i", "\u0130stanbul I\u0307 \u0131"),
    ("sharp s", "STRASSE stra\u00dfe \u1e9e"),
    ("final sigma", "\u039f\u0394\u039f\u03a3 \u03a3"),
    ("cyrillic", "\u043a\u0440\u0430\u0441\u043d\u044b\u0439 \u041a\u0420\u0423\u0413"),
    ("chinese", "\u7ea2\u8272\u7684\u5706 \u732bcat\u72ac"),
    ("japanese", "\u8d64\u3044\u5186\u3001\u30ab\u30bf\u30ab\u30ca\u3002"),
    ("korean composed and decomposed", "\ube68\uac04 \u1107\u1161\u11af"),
    ("arabic and hindi", "\u062f\u0627\u0626\u0631\u0629 \u0932\u093e\u0932"),
    ("emoji", "a \U0001f431 cat\U0001f600\U0001f600 \U0001f469\u200d\U0001f680 \U0001f1ef\U0001f1f5 \u2764\ufe0f"),
    ("beyond the basic plane", "\U0001d400\U0001d401 \U00020000"),
    ("html escapes", "a &amp; b &lt;c&gt; &amp;amp; &eacute;"),
    ("end token inside", "a cat<|endoftext|>a hat"),
    ("end token with spaces", "a cat <|endoftext|> a hat"),
    ("end token twice", "<|endoftext|><|endoftext|>"),
    ("start token inside", "<|startoftext|>a cat"),
    ("special tokens in capitals", "a<|ENDOFTEXT|>b<|StartOfText|>c"),
    ("half a special token", "<|endoftext| <endoftext> |endoftext|>"),
    ("word end mark", "cat</w> </w>"),
    ("quotes and backslash", "\"a\" 'b' \\n \\"),
    ("prompt weights", "a (red:1.3) circle [blue|green] BREAK <lora:x:1>"),
    ("unknown letters", "zyx qqq jjj"),
]
LONG = [
    ("75 tokens", "a ", 75),
    ("76 tokens", "a ", 76),
    ("cut inside a word", "zyxwv", 20),
    ("10000 letters", "a", 10_000),
    ("10000 characters of words", "circle on ", 1_000),
    ("10000 spaces", " ", 10_000),
    ("10000 end tokens", "<|endoftext|>", 10_000),
    ("10000 emoji", "\U0001f600", 10_000),
]


class Original:
    """OpenAI's tokenizer for CLIP, without ftfy."""

    def __init__(self, merges, pad):
        self.ids = {entry: number for number, entry in enumerate(tokens.vocabulary(merges))}
        self.ranks = {pair: rank for rank, pair in enumerate(merges)}
        self.letters = tokens.byte_letters()
        self.pad = self.ids[pad]
        self.pattern = regex.compile(
            r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+", regex.IGNORECASE)
        self.known = {}

    def encode(self, text):
        text = html.unescape(html.unescape(text)).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        found = []
        for word in self.pattern.findall(text):
            found += self.word(word)
            if len(found) >= LENGTH:
                break
        kept = [self.ids[tokens.START]] + found[:LENGTH - 2] + [self.ids[tokens.END]]
        return kept + [self.pad] * (LENGTH - len(kept))

    def word(self, word):
        if word not in self.known:
            self.known[word] = [self.ids[part] for part in self.parts(word)]
        return self.known[word]

    def parts(self, word):
        if word in (tokens.START, tokens.END):
            return [word]
        parts = [self.letters[byte] for byte in word.encode("utf-8")]
        parts[-1] += tokens.WORD_END
        while len(parts) > 1:
            pair = min(zip(parts, parts[1:]), key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if pair not in self.ranks:
                break
            parts = tokens.join(parts, pair)
        return parts


def encode(tokenizer, text):
    return tokenizer(text, padding="max_length", max_length=LENGTH, truncation=True).input_ids


def main():
    record.quiet()
    sd1 = CLIPTokenizer.from_pretrained(NETWORKS / "sd1" / "tokenizer")
    sd2 = CLIPTokenizer.from_pretrained(NETWORKS / "sd2" / "tokenizer")
    original = Original(tokens.tiny_merges(), tokens.END)
    cases = []
    for name, text, repeat in [(name, text, 1) for name, text in CASES] + LONG:
        prompt = text * repeat
        case = {"name": name, "text": text, "repeat": repeat, "sd1": encode(sd1, prompt), "sd2": encode(sd2, prompt)}
        assert all(len(case[key]) == LENGTH for key in ("sd1", "sd2"))
        theirs = original.encode(prompt)
        if theirs != case["sd1"]:
            case["original"] = theirs
            print(f"original CLIP differs: {name}")
        cases.append(case)
    head = {
        "made_with": record.made_with(),
        "tokenizers": {
            name: {"vocabulary": len(each), "start": each.bos_token_id, "end": each.eos_token_id, "pad": each.pad_token_id}
            for name, each in [("sd1", sd1), ("sd2", sd2)]
        },
        "differences": DIFFERENCES,
    }
    lines = ",\n".join("    " + json.dumps(case) for case in cases)
    text = json.dumps(head, indent=2)[:-2] + ',\n  "cases": [\n' + lines + "\n  ]\n}\n"
    json.loads(text)
    (HERE / "cases.json").write_text(text)


if __name__ == "__main__":
    main()
