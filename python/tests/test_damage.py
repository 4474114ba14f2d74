"""Records that are damaged or unfinished: the error names the file, and the rest can be read if that is asked for."""

import fcntl
import json
import unittest
import zlib
from pathlib import Path

import latentrace
import numpy as np

from . import made

MID = {"tap": "unet.mid_block.out", "step": 2, "branch": "cond"}


def sealed(body: bytes) -> bytes:
    """A line with its checksum, of all that comes before it."""
    return body + b',"check":"%08x"}\n' % zlib.crc32(body)


def setUpModule() -> None:
    made.program()


class Damage(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = made.copy(made.run())
        self.trace = self.folder / "trace"
        self.index = self.trace / "index.jsonl"
        self.lines = self.index.read_bytes().splitlines(keepends=True)

    def error(self, of, file: Path, cause: str, kind=latentrace.Damaged) -> None:
        """Checks that something fails with an error about a file."""
        with self.assertRaises(kind) as raised:
            of(latentrace.run(self.folder))
        self.assertIn(str(file), str(raised.exception))
        self.assertIn(cause, str(raised.exception))

    def line_of(self, tap: str, call: int) -> int:
        """The place of a line in the index."""
        parsed = [json.loads(line) for line in self.lines]
        return next(place for place, line in enumerate(parsed) if (line.get("tap"), line.get("call")) == (tap, call))

    def test_a_line_that_has_changed_is_named_and_can_be_left_out(self) -> None:
        place = self.line_of("unet.mid_block.out", 1)
        self.lines[place] = self.lines[place].replace(b'"step":0', b'"step":1')
        self.index.write_bytes(b"".join(self.lines))
        self.error(lambda run: run.tensor(**MID), self.index, f"line {place + 1}: has changed since it was written")
        rest = latentrace.run(self.folder, damaged="skip")
        self.assertEqual(len(rest.problems), 1)
        self.assertIn(f"{self.index}, line {place + 1}: has changed", rest.problems[0])
        self.assertEqual(len(rest.entries), len(latentrace.run(made.run()).entries) - 1)
        expected = latentrace.run(made.run()).tensor(**MID)
        np.testing.assert_array_equal(rest.tensor(**MID), expected)
        # Whether a call is complete, and whether the run has ended, counts only until the first line that is damaged.
        complete = [json.loads(line).get("complete") for line in self.lines[:place]]
        calls = max((call + 1 for call in complete if call is not None), default=0)
        self.assertEqual((rest.calls, rest.state), (calls, f"cut off after {calls} calls"))

    def test_lines_that_are_missing_moved_or_doubled_are_named(self) -> None:
        whole = self.lines
        for lines, cause in (
            (whole[:5] + whole[6:], "line 6: it is line 7 of the original, and lines before it are missing"),
            (whole[:5] + whole[4:], "line 6: it is line 5 of the original, moved or for the second time"),
            (whole[:4] + [whole[5], whole[4]] + whole[6:], "line 5: it is line 6 of the original"),
            (whole[:5] + [b"{}\n"] + whole[6:], "line 6: neither a tensor nor an end"),
            (whole[:5] + [b'{"tap":"x"}\n'] + whole[6:], "line 6: has no call"),
        ):
            self.index.write_bytes(b"".join(lines))
            self.error(lambda run: run.entries, self.index, cause)
            self.assertEqual(len(latentrace.run(self.folder, damaged="skip").problems) > 0, True)

    def test_a_changed_description_is_named(self) -> None:
        path = self.trace / "run.json"
        path.write_bytes(path.read_bytes().replace(b'"seed": 193', b'"seed": 194'))
        self.error(lambda run: run.entries, path, "has changed since the run was recorded")
        damage = {b"{": "not readable as JSON", b"[]": "expected a JSON object", b"{}": "has no format"}
        for text, cause in damage.items():
            path.write_bytes(text)
            self.error(lambda run: run.settings, path, cause, latentrace.Error)
        path.write_bytes(b'{"format": 2}')
        self.error(lambda run: run.entries, path, "format version 2, and this package reads up to 1", latentrace.Error)
        path.write_bytes(b'{"format": 1}')
        self.error(lambda run: run.settings, path, "has no settings", latentrace.Error)

    def test_a_shard_that_has_changed_is_cut_off_or_missing_is_named(self) -> None:
        entry = json.loads(self.lines[self.line_of("unet.mid_block.out", 3)])
        shard = self.trace / "shards" / entry["stored"]["shard"]
        whole = shard.read_bytes()
        size = int.from_bytes(whole[:8], "little")
        begin = 8 + size + json.loads(whole[8 : 8 + size])[entry["stored"]["name"]]["data_offsets"][0]
        flipped = whole[:begin] + bytes([whole[begin] ^ 1]) + whole[begin + 1 :]
        asked = {name: entry[name] for name in ("tap", "call", "branch")}
        for data, cause in (
            (flipped, f"{entry['stored']['name']}: its bytes have changed since they were recorded"),
            (whole[: begin + 4], "not whole: bytes"),
            (whole[:100], "not whole: a header to byte"),
            (whole[:3], "not whole: 3 bytes"),
            (whole.replace(b"unet.mid_block", b"unet.mid_clock"), "has no tensor unet.mid_block.out"),
            (whole[:8] + b"x" + whole[9:], "not readable as JSON"),
        ):
            shard.write_bytes(data)
            self.error(lambda run: run.tensor(**asked), shard, cause)
        shard.unlink()
        self.error(lambda run: run.tensor(**asked), shard, "the shard is missing")

    def test_a_line_leads_to_no_file_outside_the_record(self) -> None:
        place = self.line_of("unet.mid_block.out", 3)
        entry = json.loads(self.lines[place])
        body = self.lines[place].rpartition(b',"check":"')[0]
        self.lines[place] = sealed(body.replace(entry["stored"]["shard"].encode(), b"../../../secret", 1))
        self.index.write_bytes(b"".join(self.lines))
        asked = {name: entry[name] for name in ("tap", "call", "branch")}
        self.error(lambda run: run.tensor(**asked), self.index, "'../../../secret' is no name of a shard")

    def test_a_run_that_was_cut_off_says_so_and_the_rest_is_read(self) -> None:
        end = next(place for place, line in enumerate(self.lines) if json.loads(line).get("call") == 3)
        complete = sealed(b'{"complete":2,"line":%d' % (end + 1))
        self.index.write_bytes(b"".join(self.lines[:end]) + complete + self.lines[end][:40])
        (self.folder / "image.png").unlink()
        (self.trace / "scalars.csv").unlink()
        (self.folder / "cell.json").unlink()
        run = latentrace.run(self.folder)
        self.assertEqual((run.state, run.calls), ("cut off after 3 calls", 3))
        step = run.entries[-1]["step"]  # the last one that was recorded
        expected = latentrace.run(made.run()).tensor("unet.mid_block.out", step=step, branch="cond")
        np.testing.assert_array_equal(run.tensor("unet.mid_block.out", step=step, branch="cond"), expected)
        cause = "the run is not finished: cut off after 3 calls"
        self.error(lambda run: run.tensor(**{**MID, "step": 3}), self.trace, cause, latentrace.Absent)
        hint = f"cut off after 3 calls\nhint: `latentrace resume {self.folder}`"
        self.error(lambda run: run.picture(), self.folder / "image.png", hint, latentrace.Unfinished)
        self.error(lambda run: run.about, self.folder / "cell.json", hint, latentrace.Unfinished)
        self.error(lambda run: run.scalars(), self.trace / "scalars.csv", "`latentrace trace", latentrace.Unfinished)

    def test_a_run_that_is_being_written_or_has_stopped_says_so(self) -> None:
        body = b'{"end":{"beyond_budget":0,"error":"out of memory"},"line":%d' % len(self.lines)
        self.index.write_bytes(b"".join([*self.lines[:-1], sealed(body)]))
        self.assertEqual(latentrace.run(self.folder).state, "stopped after 5 calls: out of memory")
        self.index.write_bytes(b"".join(self.lines[:-1]))
        with (self.trace / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            lock.write('{"pid": 12, "host": "desk"}')
            lock.flush()
            self.assertEqual(latentrace.run(self.folder).state, "live: process 12 on desk is writing it")
        self.assertEqual(latentrace.run(self.folder).state, "cut off after 5 calls")

    def test_a_damaged_picture_or_table_is_named(self) -> None:
        picture, table = self.folder / "image.png", self.trace / "scalars.csv"
        picture.write_bytes(picture.read_bytes()[:200])
        self.error(lambda run: run.picture(), picture, "not a readable picture")
        table.write_text(table.read_text().replace("751", "many", 1))
        self.error(lambda run: run.scalars(), table, "not readable as a table of numbers")

    def test_what_is_no_run_is_an_error_with_its_name(self) -> None:
        empty = made.folder() / "nothing"
        empty.mkdir(exist_ok=True)
        for path, cause in ((empty / "x", "no such folder"), (empty, "no record of a run in it")):
            with self.assertRaises(latentrace.Error) as raised:
                latentrace.run(path)
            self.assertIn(f"{path}: {cause}", str(raised.exception))
        with self.assertRaises(latentrace.Error) as raised:
            latentrace.runs(empty)
        self.assertIn(f"{empty}: no runs in it", str(raised.exception))
        with self.assertRaises(ValueError):
            latentrace.run(made.run(), damaged="ignore")


if __name__ == "__main__":
    unittest.main()
