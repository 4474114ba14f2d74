// The address of the page holds all that is selected, so a link shows the same.

/** For each name in the address, how it is written, and how it is read: from text, which anyone may have written. */
const parts = {
  a: indexPart("a", () => data.cells.length),
  b: indexPart("b", () => data.cells.length),
  level: indexPart("level", () => levels.length),
  view: choicePart("view", ["clean", "sample"]),
  across: { write: () => state.across, read: (text) => readSide("across", text, [NONE]) },
  down: { write: () => state.down, read: (text) => readSide("down", text, [NONE, REST]) },
  at: { write: () => state.fixed.join("."), read: readFixed },
  size: { write: () => state.size ?? "fit", read: (text) => (state.size = real(text, LEAST_SIZE, MOST_SIZE, null)) },
  takes: choicePart("takes", ["a", "b"]),
  mode: choicePart("mode", ["wipe", "beside", "difference"]),
  wipe: { write: () => Number(state.wipe.toFixed(3)), read: (text) => (state.wipe = real(text, 0, 1, state.wipe)) },
  gain: {
    write: () => state.gain ?? "",
    read: (text) => (state.gain = GAINS.find((gain) => String(gain) === text) ?? null),
  },
  wide: { write: () => Number(state.wide), read: (text) => (state.wide = text === "1") },
  zoom: { write: writeZoom, read: readZoom },
  word: { write: () => (state.word ? `${state.word.nth} ${state.word.word}` : ""), read: readWord },
  only: { write: writeOnly, read: readOnly },
  between: { write: writeBetween, read: readBetween },
  having: { write: () => state.having, read: (text) => (state.having = text) },
  sort: { write: () => `${state.sort.down ? "-" : ""}${state.sort.column ?? ""}`, read: readSort },
  heat: { write: () => Object.values(state.heat).join("."), read: readHeat },
  curve: { write: () => data.columns[state.column]?.name ?? "", read: readColumn },
  against: choicePart("against", ["call", "sigma"]),
  theme: {
    write: () => state.theme ?? "",
    read: (text) => (state.theme = ["light", "dark"].find((known) => known === text) ?? null),
  },
  letters: { write: () => Number(state.letters), read: (text) => (state.letters = text !== "0") },
};

function indexPart(name, count) {
  return { write: () => state[name], read: (text) => (state[name] = whole(text, count()) ?? state[name]) };
}

function choicePart(name, choices) {
  return {
    write: () => state[name],
    read: (text) => (state[name] = choices.find((choice) => choice === text) ?? state[name]),
  };
}

/** A whole number from 0 to below `count`; null if the text is none. */
function whole(text, count) {
  return /^\d+$/.test(text) && Number(text) < count ? Number(text) : null;
}

function real(text, least, most, without) {
  const number = text.trim() === "" ? NaN : Number(text);
  return Number.isFinite(number) ? clamp(number, least, most) : without;
}

function readSide(name, text, others) {
  const value = whole(text, data.axes.length) ?? others.find((other) => String(other) === text);
  if (value !== undefined) state[name] = value;
  if (state.across === state.down && state.across !== NONE) state.down = NONE;
}

function readFixed(text) {
  text
    .split(".")
    .slice(0, data.axes.length)
    .forEach((part, axis) => {
      state.fixed[axis] = whole(part, data.axes[axis].values.length) ?? state.fixed[axis];
    });
}

function writeZoom() {
  const { scale, x, y } = state.zoom;
  return scale === null ? "" : [scale, x, y].map((number) => Number(number.toFixed(4))).join("_");
}

function readZoom(text) {
  const [scale, x, y] = text.split("_");
  state.zoom.scale = real(scale, 1 / 1024, LARGEST_SCALE, null);
  if (state.zoom.scale !== null) [state.zoom.x, state.zoom.y] = [x ?? "", y ?? ""].map((part) => real(part, 0, 1, 0.5));
}

function readWord(text) {
  const [, nth, word] = text.match(/^(\d+) (.*)$/s) ?? [];
  state.word = word ? { word, nth: Number(nth) } : null;
}

/** `0:1.3_2:0` shows the values 1 and 3 of field 0, and 0 of field 2. */
function writeOnly() {
  return state.only.flatMap((values, axis) => (values ? [`${axis}:${[...values].join(".")}`] : [])).join("_");
}

function readOnly(text) {
  for (const part of text.split("_")) {
    const [axis, values] = [whole(part.split(":")[0], data.axes.length), part.split(":")[1] ?? ""];
    if (axis === null) continue;
    const known = values.split(".").map((value) => whole(value, data.axes[axis].values.length));
    state.only[axis] = new Set(known.filter((value) => value !== null));
  }
}

/** `1:0.5~` shows what has at least 0.5 as number 1. */
function writeBetween() {
  return state.between
    .flatMap(([least, most], index) =>
      least === null && most === null ? [] : [`${index}:${least ?? ""}~${most ?? ""}`],
    )
    .join("_");
}

function readBetween(text) {
  for (const part of text.split("_")) {
    const [index, range] = [whole(part.split(":")[0], data.numbers.length), part.split(":")[1] ?? ""];
    if (index === null) continue;
    const [least, most] = range.split("~").map((end) => real(end, -Infinity, Infinity, null));
    state.between[index] = [least ?? null, most ?? null];
  }
}

function readSort(text) {
  const column = whole(text.replace("-", ""), columnNames.length);
  state.sort = { column, down: column !== null && text.startsWith("-") };
}

function readHeat(text) {
  const [of, across, down] = text.split(".");
  state.heat.of = whole(of, heatNames.length) ?? state.heat.of;
  const axis = (part) => whole(part ?? "", data.axes.length) ?? NONE;
  [state.heat.across, state.heat.down] = [axis(across), axis(down)];
  if (state.heat.across === state.heat.down) state.heat.down = NONE;
}

function readColumn(text) {
  const column = data.columns.findIndex((column) => column.name === text);
  if (column >= 0) state.column = column;
}

const written = () => Object.fromEntries(Object.entries(parts).map(([name, part]) => [name, String(part.write())]));

/** What the address would hold at the start; only what differs from it is written. */
const atStart = written();

let toKeep = null;

/** Writes the selection into the address, soon: browsers limit how often. */
function keep() {
  toKeep ??= setTimeout(keepNow, 150);
}

function keepNow() {
  clearTimeout(toKeep);
  toKeep = null;
  const differing = Object.entries(written()).filter(([name, text]) => text !== atStart[name]);
  const text = new URLSearchParams(differing).toString();
  history.replaceState(null, "", text ? `#${text}` : location.pathname + location.search);
}

/** Reads the selection from the address. What it does not name is as at the start. */
function readLink() {
  const { near } = state;
  Object.assign(state, initial(), { near });
  const asked = new URLSearchParams(location.hash.slice(1));
  for (const [name, part] of Object.entries(parts)) {
    const text = asked.get(name);
    if (text !== null) part.read(text);
  }
}
