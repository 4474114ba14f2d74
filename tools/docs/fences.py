"""The fenced blocks of a page, and the commands in them."""

import re
import shlex
import subprocess
from dataclasses import dataclass

SHELL = ("sh", "bash", "console")
OPENING = re.compile(r"^( {0,3})(`{3,}|~{3,})\s*([\w+-]*)")
INLINE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


@dataclass(frozen=True)
class Fence:
    """A fenced block: its language, which may be empty, and its lines."""

    line: int  # of the first line inside, from 1
    language: str
    lines: tuple


@dataclass(frozen=True)
class Page:
    """A page of the documentation."""

    name: str  # the path from the root
    fences: tuple
    prose: tuple  # pairs of a line's number and the line, for everything outside the fences

    def inline(self):
        """The code between single backticks, as pairs of the line's number and the code on one line."""
        text = "\n".join(line for _, line in self.prose)
        for found in INLINE.finditer(text):
            yield self.prose[text.count("\n", 0, found.start())][0], " ".join(found[1].split())


@dataclass(frozen=True)
class Command:
    """A command of a page."""

    line: int
    script: str  # as the page has it, which bash reads
    text: str  # on one line and without comments, which names it

    def words(self):
        """The words of the command, without quotes; variables and globs stay as they are."""
        try:
            return shlex.split(self.text)
        except ValueError:  # a heredoc, whose text need not be words
            return self.text.split()


def read_page(root, path):
    """Reads a page. A fence that is not closed ends with the page, as in CommonMark."""
    fences, prose, inside = [], [], None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        opening = OPENING.match(line)
        if inside is None and opening:
            inside = (opening[2], opening[3].lower(), number + 1, len(opening[1]), [])
        elif inside is None:
            prose.append((number, line))
        elif re.fullmatch(rf" {{0,3}}{re.escape(inside[0][0])}{{{len(inside[0])},}}\s*", line):
            fences.append(Fence(inside[2], inside[1], tuple(inside[4])))
            inside = None
        else:
            inside[4].append(line[min(inside[3], len(line) - len(line.lstrip(" "))):])
    if inside is not None:
        fences.append(Fence(inside[2], inside[1], tuple(inside[4])))
    return Page(path.relative_to(root).as_posix(), tuple(fences), tuple(prose))


def commands(page):
    """The commands of all shell blocks of a page, in order."""
    return [command for fence in page.fences if fence.language in SHELL for command in of_fence(fence)]


def of_fence(fence):
    """The commands of one block. A command goes on until bash has read all of it."""
    found, script, first = [], "", 0
    for number, line in lines_of(fence):
        if not script and not without_comment(line):
            continue
        first = first if script else number
        script = f"{script}\n{line}" if script else line
        if is_whole(script):
            found.append(Command(first, script, on_one_line(script)))
            script = ""
    if script:  # bash will say what is missing
        found.append(Command(first, script, on_one_line(script)))
    return found


def lines_of(fence):
    """The lines of a block that are input: of a console all after `$ ` or `> `, otherwise all."""
    for number, line in enumerate(fence.lines, fence.line):
        if fence.language != "console":
            yield number, line
        elif line.startswith(("$ ", "> ")):
            yield number, line[2:]


def is_whole(script):
    """Whether no line has to follow: no continuation, open quote, compound command or heredoc."""
    if re.search(r"(?<!\\)(\\\\)*\\$", script):
        return False
    # bash reports a heredoc without its end as a warning, with status 0.
    parsed = subprocess.run(["bash", "-n", "-c", script], capture_output=True, text=True)
    return not re.search("unexpected EOF|unexpected end of file|delimited by end-of-file", parsed.stderr)


def on_one_line(script):
    """The command without comments and continuations, words separated by one space."""
    lines = re.sub(r"\\\n", " ", script).splitlines()
    return " ".join(" ".join(map(without_comment, lines)).split())


def without_comment(line):
    """The line without a comment at its end, and without spaces there."""
    quote, is_escaped = "", False
    for at, char in enumerate(line):
        if is_escaped:
            is_escaped = False
        elif char == "\\" and quote != "'":
            is_escaped = True
        elif quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        elif char == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at].rstrip()
    return line.rstrip()
