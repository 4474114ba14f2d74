// The curves of every run over its network calls.

/** The chart's size and margins; its width is set when it is painted. */
const SHAPE = { width: 400, height: 280, left: 58, right: 14, top: 12, bottom: 44 };

function mark(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The points of each cell's curve. */
function curves() {
  const column = data.columns.findIndex((known) => known.name === byId("column").value);
  const x = byId("against").value;
  return data.cells.map((cell) =>
    cell.curves.map((row, call) => [x === "sigma" ? cell.sigmas[call] : call, row[column]])
      .filter(([at, value]) => value !== null && Number.isFinite(value) && (x !== "sigma" || at > 0)));
}

/** The map from numbers to pixels, linear or logarithmic. */
function scaleOf(values, log, from, to) {
  const of = (value) => (log ? Math.log10(value) : value);
  let [low, high] = values.reduce(([least, most], value) => [Math.min(least, of(value)), Math.max(most, of(value))], [Infinity, -Infinity]);
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return { place: (value) => from + ((of(value) - low) / (high - low)) * (to - from), ticks: ticks(low, high, log) };
}

/** Round numbers between the ends. */
function ticks(low, high, log) {
  if (log && high - low >= 0.7) {
    const powers = Array.from({ length: Math.floor(high) - Math.floor(low) + 1 }, (_, index) => Math.floor(low) + index);
    const each = Math.ceil((high - low) / 5);
    const within = (tick) => Math.log10(tick) >= low && Math.log10(tick) <= high;
    const between = high - low < 2.2 ? [1, 2, 5] : [1];
    return powers.filter((power) => power % each === 0).flatMap((power) => between.map((times) => times * 10 ** power)).filter(within);
  }
  const [from, to] = log ? [10 ** low, 10 ** high] : [low, high];
  const rough = (to - from) / 5;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * size).find((step) => step >= rough);
  const found = [];
  for (let index = Math.ceil(from / step); index * step <= to; index++) found.push(Number((index * step).toPrecision(12)));
  return found;
}

function paintCurves() {
  const lines = curves();
  const points = lines.flat();
  if (points.length === 0) return fill(byId("chart"), make("p", { class: "note" }, "nothing was recorded"));
  SHAPE.width = Math.max(300, byId("chart").clientWidth);
  const { width, height, left, right, top, bottom } = SHAPE;
  const isSigma = byId("against").value === "sigma";
  const values = points.map((point) => point[1]);
  const [least, most] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [Infinity, -Infinity]);
  const xs = points.map((point) => point[0]);
  const x = isSigma ? scaleOf(xs, true, width - right, left) : scaleOf(xs, false, left, width - right); // noise at the left
  const y = scaleOf(values, least > 0 && most / least > 30, height - bottom, top);
  const svg = mark("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${byId("column").selectedOptions[0]?.textContent} of every run` });
  for (const tick of y.ticks) {
    svg.append(mark("line", { class: "grid", x1: left, x2: width - right, y1: y.place(tick), y2: y.place(tick) }));
    svg.append(mark("text", { x: left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  for (const tick of x.ticks) svg.append(mark("text", { x: x.place(tick), y: height - bottom + 18, "text-anchor": "middle" }, short(tick)));
  svg.append(mark("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, isSigma ? "sigma, from noise to picture" : "network call"));
  const order = lines.map((_, index) => index).sort((one, other) => rank(one) - rank(other)); // A is drawn last
  for (const index of order) {
    if (lines[index].length === 0) continue;
    const path = lines[index].map(([at, value]) => `${x.place(at).toFixed(1)},${y.place(value).toFixed(1)}`).join(" ");
    svg.append(mark("polyline", { class: `line${marks(index)}${index === state.near ? " is-near" : ""}`, points: path, "data-cell": index }));
  }
  paintNow(svg, x, isSigma);
  const pointer = (event) => nearest(event, svg, lines, x, y);
  svg.addEventListener("pointermove", (event) => hover(pointer(event)));
  svg.addEventListener("pointerleave", () => hover(null));
  svg.addEventListener("click", (event) => {
    const index = pointer(event);
    if (index !== null) choose(event.shiftKey || event.altKey ? "b" : "a", index);
  });
  fill(byId("chart"), svg);
}

const rank = (index) => (index === state.near ? 3 : index === state.a ? 2 : index === state.b ? 1 : 0);

/** A vertical line at the slider's level. */
function paintNow(svg, x, isSigma) {
  const sigma = levels[state.level];
  if (sigma === 0) return;
  const frame = frameAt(data.cells[state.a], sigma);
  const at = isSigma ? sigma : frame ? frame.call : null;
  if (at === null) return;
  svg.append(mark("line", { class: "now", x1: x.place(at), x2: x.place(at), y1: SHAPE.top, y2: SHAPE.height - SHAPE.bottom }));
}

/** The cell whose curve passes nearest to the pointer. */
function nearest(event, svg, lines, x, y) {
  const box = svg.getBoundingClientRect();
  const scale = SHAPE.width / box.width;
  const [left, top] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let best = { far: 24, index: null };
  lines.forEach((line, index) => line.forEach(([at, value]) => {
    const far = Math.hypot(x.place(at) - left, y.place(value) - top);
    if (far < best.far) best = { far, index };
  }));
  return best.index;
}

function hover(index) {
  if (index === state.near) return;
  state.near = index;
  byId("curve-name").textContent = index === null ? legend() : data.cells[index].label;
  paintCurves();
}

function legend() {
  return `A is ${data.cells[state.a].label}, B is ${data.cells[state.b].label}; point at a curve for its name, press it to take it`;
}

function curvesTable() {
  const lines = [["picture", "call", ...data.columns.map((column) => column.name)]];
  for (const cell of data.cells) cell.curves.forEach((row, call) => lines.push([cell.label, call, ...row]));
  download("curves.csv", lines);
}
