// Full pictures and frames, which are too large for the page: files beside it, read when they are needed.

/** What was asked for, by its file: an image, and "loading", "there", "missing" or "other". */
const fulls = new Map();
/** So many stay in memory. A and B need four. */
const MOST_FULLS = 8;

/** The full picture of a cell, or the sheet of its frames ("picture" or "frames"), once it is there. */
function fullImage(cell, kind) {
  const found = askFull(cell, kind);
  return found?.state === "there" ? found.image : null;
}

function askFull(cell, kind) {
  const path = cell.full[kind];
  if (!path) return null;
  const known = fulls.get(path);
  if (known) return latest(path, known);
  if (fulls.size >= MOST_FULLS) fulls.delete(fulls.keys().next().value);
  const asked = latest(path, { image: new Image(), state: "loading" });
  const [width, height] =
    kind === "picture" ? cell.size : [cell.frameFull[0] * cell.calls.length, 2 * cell.frameFull[1]];
  asked.image.addEventListener("load", () => {
    const { naturalWidth, naturalHeight } = asked.image;
    asked.state = naturalWidth === width && naturalHeight === height ? "there" : "other";
    repaint();
  });
  asked.image.addEventListener("error", () => lost(asked));
  if (data.full === "scripts") askScript(path, asked);
  else asked.image.src = beside(path);
  return asked;
}

/** Puts what is used last at the end, so that the first is forgotten first. */
function latest(path, asked) {
  fulls.delete(path);
  fulls.set(path, asked);
  return asked;
}

function lost(asked) {
  asked.state = "missing";
  repaint();
}

/** A page that was opened from a file may read a script beside it, but not the pixels of an image. */
function askScript(path, asked) {
  const script = make("script", { src: beside(path), onerror: () => lost(asked) });
  script.addEventListener("load", () => {
    const source = given.get(path.split("/").pop());
    if (source) asked.image.src = source;
    else lost(asked);
    given.delete(path.split("/").pop());
    script.remove();
  });
  document.head.append(script);
}

const given = new Map();

/** What the scripts beside the page call: the name of their file, and the image in it. */
window.latentrace = (name, source) => given.set(name, source);

/** Why a cell is shown from its thumbnail; nothing if it is not, or not yet. */
function whyThumbnail(cell) {
  const kind = frameAt(cell, levels[state.level]) ? "frames" : "picture";
  if (kind === "picture" ? cell.exact : cell.framesExact) return null;
  const path = cell.full[kind];
  if (!path) return "the page has no more than a thumbnail of it";
  const found = askFull(cell, kind);
  if (found.state === "missing") return `${path} was not found from where this page is`;
  return found.state === "other"
    ? `${path} is of another size, so it was made again since this page was written`
    : null;
}

/** Says which of A and B are shown from thumbnails, and what helps. */
function tellFull() {
  const why = [
    ["A", data.cells[state.a]],
    ["B", data.cells[state.b]],
  ]
    .map(([name, cell]) => [name, whyThumbnail(cell)])
    .filter(([, reason]) => reason);
  const lines = why.map(([name, reason]) => make("span", {}, `${name} is shown from a thumbnail: ${reason}. `));
  if (why.length > 0)
    lines.push(
      make("span", {}, "Hint: `latentrace report --full` puts full pictures beside the page; move both together."),
    );
  const text = lines.map((line) => line.textContent).join("");
  if (byId("full-note").textContent !== text) fill(byId("full-note"), ...lines);
}
