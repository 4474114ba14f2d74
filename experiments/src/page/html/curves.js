// The curves of every run over its network calls.

/** The chart's height and margins. */
const SHAPE = { height: 280, left: 58, right: 14, top: 12, bottom: 44 };

/** The chart that is painted: its scales, and the line of each cell. */
let chart = null;

function mark(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** The points of the curve of each cell that is shown. */
function curves() {
  const isSigma = state.against === "sigma";
  const points = new Map();
  for (const index of shownCells()) {
    const cell = data.cells[index];
    const numbers = series(cell.curves[state.column]);
    const line = Array.from(numbers, (value, call) => [isSigma ? cell.noise[call] : call, value]).filter(
      ([at, value]) => Number.isFinite(value) && (!isSigma || at > 0),
    );
    if (line.length > 0) points.set(index, line);
  }
  return points;
}

/** The map from numbers to pixels, linear or logarithmic. */
function scaleOf(values, log, from, to) {
  const of = (value) => (log ? Math.log10(value) : value);
  let [low, high] = ends(values.map(of));
  if (low === high) [low, high] = [low - 0.5, high + 0.5];
  return { place: (value) => from + ((of(value) - low) / (high - low)) * (to - from), ticks: ticks(low, high, log) };
}

/** Round numbers between the ends. */
function ticks(low, high, log) {
  if (log && high - low >= 0.7) {
    const powers = Array.from(
      { length: Math.floor(high) - Math.floor(low) + 1 },
      (_, index) => Math.floor(low) + index,
    );
    const each = Math.ceil((high - low) / 5);
    const within = (tick) => Math.log10(tick) >= low && Math.log10(tick) <= high;
    const between = high - low < 2.2 ? [1, 2, 5] : [1];
    return powers
      .filter((power) => power % each === 0)
      .flatMap((power) => between.map((times) => times * 10 ** power))
      .filter(within);
  }
  const [from, to] = log ? [10 ** low, 10 ** high] : [low, high];
  const rough = (to - from) / 5;
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((times) => times * size).find((step) => step >= rough);
  const found = [];
  for (let index = Math.ceil(from / step); index * step <= to; index++)
    found.push(Number((index * step).toPrecision(12)));
  return found;
}

function paintCurves() {
  if (data.columns.length === 0) return;
  const lines = curves();
  const points = [...lines.values()].flat();
  chart = null;
  if (points.length === 0) {
    return fill(
      byId("chart"),
      make("p", { class: "note" }, shownCells().length ? "nothing was recorded" : "the filters hide every picture"),
    );
  }
  const width = Math.max(280, byId("chart").clientWidth);
  const { height, left, right, top, bottom } = SHAPE;
  const isSigma = state.against === "sigma";
  const [xs, values] = [0, 1].map((at) => points.map((point) => point[at]));
  const [least, most] = ends(values);
  // Noise is at the left.
  const x = isSigma ? scaleOf(xs, true, width - right, left) : scaleOf(xs, false, left, width - right);
  const y = scaleOf(values, least > 0 && most / least > 30, height - bottom, top);
  const name = `${data.columns[state.column].label} of ${lines.size} runs`;
  const svg = mark("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": name });
  paintAxes(svg, x, y, width, isSigma);
  const elements = new Map();
  for (const [index, line] of lines) {
    const path = line.map(([at, value]) => `${x.place(at).toFixed(1)},${y.place(value).toFixed(1)}`).join(" ");
    elements.set(index, mark("polyline", { points: path, "data-cell": index }));
  }
  const group = mark("g", {}, ...elements.values());
  const now = mark("line", { class: "now", y1: top, y2: height - bottom });
  svg.append(group, now);
  chart = { svg, x, y, lines, elements, group, now, isSigma, width };
  markCurves();
  paintNow();
  svg.addEventListener("pointermove", (event) => hover(nearest(event)));
  svg.addEventListener("pointerleave", () => hover(null));
  svg.addEventListener("click", (event) => {
    const index = nearest(event);
    if (index !== null) choose(taking(event), index);
  });
  fill(byId("chart"), svg);
}

function paintAxes(svg, x, y, width, isSigma) {
  const { height, left, right, bottom } = SHAPE;
  for (const tick of y.ticks) {
    svg.append(mark("line", { class: "grid", x1: left, x2: width - right, y1: y.place(tick), y2: y.place(tick) }));
    svg.append(mark("text", { x: left - 8, y: y.place(tick) + 4, "text-anchor": "end" }, short(tick)));
  }
  // There is no half of a call.
  for (const tick of x.ticks.filter((tick) => isSigma || Number.isInteger(tick))) {
    svg.append(mark("text", { x: x.place(tick), y: height - bottom + 18, "text-anchor": "middle" }, short(tick)));
  }
  const title = isSigma ? "sigma, from noise to picture" : "network call";
  svg.append(mark("text", { x: (left + width - right) / 2, y: height - 6, "text-anchor": "middle" }, title));
}

/** Marks the curves of A, of B and under the pointer, and lays them over the others. */
function markCurves() {
  if (!chart) return;
  for (const element of chart.group.querySelectorAll(".is-a, .is-b, .is-near, polyline:not([class])")) {
    element.setAttribute("class", "line");
  }
  for (const index of [state.b, state.a, state.near]) {
    const element = chart.elements.get(index);
    if (!element) continue;
    element.setAttribute("class", `line${marks(index)}${index === state.near ? " is-near" : ""}`);
    chart.group.append(element);
  }
}

/** A vertical line at the slider's level. */
function paintNow() {
  if (!chart) return;
  const sigma = levels[state.level];
  const frame = frameAt(data.cells[state.a], sigma);
  chart.now.style.display = frame ? "" : "none";
  const at = frame && chart.x.place(chart.isSigma ? sigma : frame.call);
  if (frame) for (const name of ["x1", "x2"]) chart.now.setAttribute(name, at);
}

/** The cell whose curve passes nearest to the pointer. */
function nearest(event) {
  const { svg, x, y, lines, width } = chart;
  const box = svg.getBoundingClientRect();
  const scale = width / box.width;
  const [left, top] = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  let best = { far: 24, index: null };
  for (const [index, line] of lines) {
    for (const [at, value] of line) {
      const far = Math.hypot(x.place(at) - left, y.place(value) - top);
      if (far < best.far) best = { far, index };
    }
  }
  return best.index;
}

function hover(index) {
  if (index === state.near) return;
  state.near = index;
  tellCurves();
  markCurves();
}

/** Names the curve under the pointer, or those of A and B. */
function tellCurves() {
  const name = (index) => own(data.cells[index].label);
  const legend = [
    "A is ",
    name(state.a),
    ", B is ",
    name(state.b),
    "; point at a curve for its name, press it to take it",
  ];
  fill(byId("curve-name"), ...(state.near === null ? legend : [name(state.near)]));
}

function buildColumns() {
  fill(byId("column"), ...data.columns.map((column, index) => make("option", { value: index }, column.label)));
  byId("column").addEventListener("change", (event) => setCurve("column", Number(event.target.value)));
  byId("against").addEventListener("change", (event) => setCurve("against", event.target.value));
  byId("curves-csv").addEventListener("click", curvesTable);
}

function setCurve(part, value) {
  state[part] = value;
  paintCurves();
  keep();
}

function curvesTable() {
  const lines = [["picture", "call", ...data.columns.map((column) => column.name)]];
  for (const index of shownCells()) {
    const cell = data.cells[index];
    cell.noise.forEach((_, call) => {
      lines.push([cell.label, call, ...cell.curves.map((column) => sixDigits(series(column)[call] ?? NaN))]);
    });
  }
  download("curves.csv", lines);
}
