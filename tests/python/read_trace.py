"""Reads a trace with stock safetensors and no code of Latentrace, and holds everything that docs/trace.md says of it.

    python tests/python/read_trace.py FOLDER

Needs numpy and safetensors. numpy has no bfloat16, so tensors stored as BF16 need torch too; without it they are counted and
passed by. Prints one line; what does not hold is an AssertionError that names the line or the tensor. The part between the
two marks is the example of docs/trace.md, word for word, and is run here.
"""

# ---- docs/trace.md: begin
import json
from pathlib import Path

import numpy as np
from safetensors import safe_open


def entries(trace, tap, branch=None, kept=""):
    """The index lines of one tap, in the order in which its tensors passed."""
    lines = (Path(trace) / "index.jsonl").read_bytes().split(b"\n")[:-1]  # without what a kill has left of a line
    found = (json.loads(line) for line in lines)
    return [line for line in found if (line.get("tap"), line.get("branch"), line.get("kept", "")) == (tap, branch, kept)]


def array(trace, stored):
    """The numbers of an index line's `stored`."""
    framework = "pt" if stored["dtype"] == "BF16" else "np"  # numpy has no bfloat16
    with safe_open(Path(trace) / "shards" / stored["shard"], framework) as shard:
        numbers = shard.get_tensor(stored["name"])
    if stored["dtype"] == "U8":  # 256 levels, from q8
        low, high = stored["range"]
        return low + numbers.astype(np.float32) * np.float32((high - low) / 255)
    return numbers.float().numpy() if framework == "pt" else numbers


def by_step(trace, tap, branch=None):
    """Prints the rms of a tap at every call, and stacks its tensors: [steps, 1, ..], of each step the last call."""
    steps = {}
    for entry in entries(trace, tap, branch):
        print(f"call {entry['call']:3}  sigma {entry['sigma']:8.4f}  rms {entry['statistics']['rms']:8.4f}")
        steps[entry["step"]] = array(trace, entry["stored"])
    return np.stack(list(steps.values()))
# ---- docs/trace.md: end


import contextlib
import io
import sys
import zlib

MARK = "# ---- docs/trace.md: "
NUMPY = {"F32": np.float32, "F16": np.float16, "F64": np.float64, "I64": np.int64, "U8": np.uint8}


def checked_lines(trace):
    """Every line of the index; its number and its checksum are checked, and that of run.json, which is in the first."""
    data = (trace / "index.jsonl").read_bytes()
    run = zlib.crc32((trace / "run.json").read_bytes())
    assert data.endswith(b"\n"), "index.jsonl: the last line is cut off"
    lines = []
    for number, line in enumerate(data.splitlines(), 1):
        body, mark, check = line.rpartition(b',"check":"')
        assert mark, f"index.jsonl, line {number}: no checksum"
        assert check == b'%08x"}' % zlib.crc32(body), f"index.jsonl, line {number}: has changed since it was written"
        lines.append(json.loads(line))
        assert lines[-1]["line"] == number, f"index.jsonl, line {number}: it is line {lines[-1]['line']}"
    assert lines[0]["run_crc32"] == run, "run.json: has changed since the run was recorded"
    return lines


def check_order(lines):
    """Calls come one after the other, and the last line says how the run ended."""
    complete, seen = -1, set()
    for number, line in enumerate(lines, 1):
        at = f"index.jsonl, line {number}"
        if "tap" in line:
            key = tuple(line.get(key) for key in ("call", "tap", "branch", "image", "kept"))
            assert key not in seen, f"{at}: {key} for the second time"
            assert line["call"] > complete, f"{at}: call {line['call']} after it was said to be complete"
            assert line.get("branch") in (None, "cond", "uncond"), at
            seen.add(key)
        elif "complete" in line:
            assert line["complete"] > complete, f"{at}: complete {line['complete']} after {complete}"
            complete = line["complete"]
        else:
            assert "end" in line and number == len(lines), at
    calls = {call for call, *_ in seen}
    assert max(calls) == complete and "end" in lines[-1], f"cut off after call {complete}"
    return complete + 1


def check_shard(path, found):
    """Holds every tensor of a shard against the lines that speak of it; returns how many could not be looked at."""
    bf16 = any(entry["stored"]["dtype"] == "BF16" for entry in found)
    torch = torch_or_none() if bf16 else None
    spoken = {stored["name"] for entry in found for stored in parts(entry)}
    skipped = 0
    with safe_open(path, "np") as shard, safe_open(path, "pt" if torch else "np") as whole:
        assert set(shard.keys()) == spoken, f"{path}: {set(shard.keys()) ^ spoken} in one and not in the other"
        for entry in found:
            stored, at = entry["stored"], f"{path}: {entry['stored']['name']}"
            header = shard.get_slice(stored["name"])
            assert header.get_shape() == entry["shape"], f"{at}: shape {header.get_shape()}, not {entry['shape']}"
            assert header.get_dtype() == stored["dtype"], f"{at}: {header.get_dtype()}, not {stored['dtype']}"
            if stored["dtype"] != "BF16":
                numbers = shard.get_tensor(stored["name"])
                assert numbers.dtype == NUMPY[stored["dtype"]], at
                data = numbers.tobytes()
            elif torch:
                numbers = whole.get_tensor(stored["name"])
                data, numbers = numbers.view(torch.int16).numpy().tobytes(), numbers.float().numpy()
            else:
                skipped += 1
                continue
            assert zlib.crc32(data) == stored["crc32"], f"{at}: has changed since it was written"
            check_numbers(entry, numbers, at)
            if "places" in entry:
                check_places(shard, entry, at)
    return skipped


def parts(entry):
    """What is stored of an entry: its numbers, and the places of a topk."""
    return [entry[part] for part in ("stored", "places") if part in entry]


def check_places(shard, entry, at):
    """Holds that the places of a topk are exact: whole numbers, each once, as many as there are numbers."""
    stored = entry["places"]
    places = shard.get_tensor(stored["name"])
    assert places.dtype == np.int64 and list(places.shape) == entry["shape"], f"{at}: places"
    assert zlib.crc32(places.tobytes()) == stored["crc32"], f"{at}: its places have changed since they were written"
    assert (places >= 0).all() and len(set(places.flat)) == places.size, f"{at}: places"


def check_grid(entry):
    """Holds that a grid has as many pixels as its axis."""
    height, width = entry["grid"]
    axis = {4: 2, 3: 1}[len(entry["shape"])]
    assert entry["shape"][axis] == height * width, f"{entry['tap']}: a grid of {height} by {width} in {entry['shape']}"


def torch_or_none():
    try:
        import torch
        return torch
    except ImportError:
        return None


def check_numbers(entry, numbers, at):
    """Holds the statistics: of what was kept before it was rounded, or of the whole tensor for a histogram."""
    stored, said = entry["stored"], entry["statistics"]
    reductions = entry.get("kept", "").split(" | ")
    if any(reduction.startswith("histogram") for reduction in reductions):
        edges = stored["range"] if stored["dtype"] != "U8" else [said["min"], said["max"]]
        assert edges == [said["min"], said["max"]] and (numbers >= 0).all(), at
        return
    finite = numbers[np.isfinite(numbers)].astype(np.float64)
    if stored["dtype"] == "U8":
        low, high = stored["range"]
        assert (low, high) == (said["min"], said["max"]), at
        numbers = low + finite * (high - low) / 255
        rounding = (high - low) / 510 * 1.01  # half a level
    elif stored["dtype"] == entry["dtype"]:
        assert said.get("nan", 0) + said.get("inf", 0) == numbers.size - finite.size, f"{at}: not finite"
        numbers, rounding = finite, 1e-5 * max(abs(said["min"]), abs(said["max"]))
    else:
        return  # f16 may overflow
    if numbers.size:
        found = {"min": numbers.min(), "max": numbers.max(), "rms": np.sqrt(np.square(numbers).mean())}
        for name, value in found.items():
            assert abs(value - said[name]) <= rounding + 1e-30, f"{at}: {name} is {value}, not {said[name]}"


def check_example(trace, found):
    """The example of the documentation, on the taps that were kept whole at every call."""
    taps = {(entry["tap"], entry.get("branch")) for entry in found if not entry.get("kept")}
    assert ("sampler.sample", None) in taps, "sampler.sample was not kept"
    for tap, branch in [("sampler.sample", None)] + sorted(taps, key=str)[:3]:
        lines = entries(trace, tap, branch)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            stack = by_step(trace, tap, branch)
        assert len(printed.getvalue().splitlines()) == len(lines), tap
        assert list(stack.shape) == [len({entry["step"] for entry in lines}), *lines[0]["shape"]], tap
    this = Path(__file__).read_text().split(MARK + "begin\n")[1].split(MARK + "end")[0]
    page = Path(__file__).parents[2] / "docs" / "trace.md"
    assert not page.exists() or this in page.read_text(), f"{page}: the example is not that of {__file__}"


def main(trace):
    run = json.loads((trace / "run.json").read_text())
    assert run["format"] == 1, f"format {run['format']}: this script reads 1"
    lines = checked_lines(trace)
    calls = check_order(lines)
    found = [line for line in lines if "tap" in line]
    shards = {}
    for entry in found:
        if "grid" in entry:
            check_grid(entry)
        if "stored" in entry:
            shards.setdefault(entry["stored"]["shard"], []).append(entry)
    files = {path.name for path in (trace / "shards").iterdir()}
    assert files == set(shards), f"shards: {files ^ set(shards)} in one and not in the other"
    skipped = sum(check_shard(trace / "shards" / name, of) for name, of in sorted(shards.items()))
    check_example(trace, found if not skipped else [entry for entry in found if entry["dtype"] != "BF16"])
    passed_by = f", {skipped} in BF16 not looked at for want of torch" if skipped else ""
    taps = len({entry["tap"] for entry in found})
    print(f"{trace}: {len(found)} tensors of {taps} taps at {calls} calls in {len(shards)} shards hold{passed_by}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(Path(sys.argv[1]))
