"use strict";
// The data of the page, and what the reader has selected.

const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);

const decoded = new Map();

/** A list of numbers, which the page holds as the bytes of 32-bit floats; NaN where a number is not defined. */
function series(index) {
  let numbers = decoded.get(index);
  if (!numbers) {
    numbers = new Float32Array(bytes(data.series[index]).buffer);
    decoded.set(index, numbers);
  }
  return numbers;
}

function bytes(text) {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

const sixDigits = (number) => Number(number.toPrecision(6));

// What follows from a cell's data: its frames, and which occurrence of a word each map of attention is of.
for (const cell of data.cells) {
  cell.noise = [...series(cell.sigmas)].map(sixDigits);
  cell.frames = cell.calls
    .map((call, column) => ({ call, column, sigma: cell.noise[call] }))
    .filter(({ sigma }) => sigma !== undefined);
  cell.words = cell.words.map(([word, rows, columns, map], index) => {
    const nth = cell.words.slice(0, index).filter(([earlier]) => earlier === word).length + 1;
    return { word, nth, rows, columns, map };
  });
}

/** The noise levels of the slider: all that have frames, from high to low, then 0 for the final picture. */
const levels = [...new Set(data.cells.flatMap((cell) => cell.frames.map((frame) => frame.sigma)))].sort(
  (one, other) => other - one,
);
levels.push(0);

/** The fields with most values: they become columns and rows. */
const longest = data.axes
  .map((_, axis) => axis)
  .sort((one, other) => data.axes[other].values.length - data.axes[one].values.length || other - one);

/** No field, and every field that is not on the other axis. */
const NONE = -1;
const REST = -2;

/** Whether most combinations of values have no picture, as where runs were made one by one: then they are shown one after the other. */
const isSparse = data.axes.reduce((places, axis) => places * axis.values.length, 1) > 2 * data.cells.length;

/** So many digits has a number on its place of the heat map. */
const HEAT_DIGITS = 3;

/** What is selected when the page is opened without a link. */
function initial() {
  return {
    across: isSparse ? NONE : (longest[0] ?? NONE), // the field along the columns, or NONE
    down: isSparse ? NONE : (longest[1] ?? NONE), // the field along the rows, NONE or REST
    fixed: data.axes.map((_, axis) => data.cells[0]?.place[axis] ?? 0), // the value of each field that is on neither axis: A's
    size: null, // the width of a picture of the grid; null fits the window
    takes: "a", // which of the two a press selects
    view: "clean",
    level: levels.length - 1,
    a: 0,
    b: data.cells.length - 1,
    mode: "wipe",
    wipe: 0.5,
    gain: null, // how much a difference is enlarged; null makes its largest number the brightest
    wide: false, // whether the comparison is as wide as the page
    zoom: { scale: null, x: 0.5, y: 0.5 }, // see zoom.js
    word: null, // see words.js
    only: data.axes.map(() => null), // for each field the values that are shown; null for all
    between: data.numbers.map(() => [null, null]), // for each number the least and the largest that are shown
    having: "", // what the label must contain
    sort: { column: null, down: false },
    heat: { of: startHeat(), across: longest[0] ?? NONE, down: longest[1] ?? NONE },
    column: startColumn(),
    against: "call",
    theme: null, // null is the browser's
    letters: true, // whether single letters are keys
    near: null, // the curve under the pointer
  };
}

/** The curve that tells most; sigma, which comes first, is the same in most runs. */
function startColumn() {
  return Math.max(
    0,
    data.columns.findIndex((column) => column.name === "rms_epsilon_difference"),
  );
}

const state = initial();

const cellOf = new Map(data.cells.map((cell, index) => [cell.place.join(), index]));

/** An element with attributes and children. Strings become text nodes, never markup. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Text of a run, such as a prompt: its direction is its own, and does not change that of the text around it. */
const own = (text) => make("bdi", {}, text);

/** The head of a row or a column of pictures or of numbers. */
const headOf = (scope, label) =>
  make("th", { scope, title: label }, make("span", { class: "head", dir: "auto" }, label));

/** The corner of a table, with the names of what is below it and beside it. */
function cornerOf(down, across) {
  return make(
    "td",
    { class: "corner" },
    make("span", { class: "head" }, own(down), down && across ? " \\ " : "", own(across)),
  );
}

/** Replaces what is in an element. The focus stays on what has the same `data-key` or id, or goes to the tab stop. */
function fill(element, ...children) {
  const focused = element.contains(document.activeElement) ? document.activeElement : null;
  const [key, id] = [focused?.dataset.key, focused?.id];
  element.replaceChildren(...children);
  const same = key ? element.querySelector(`[data-key="${key}"]`) : id && byId(id);
  if (focused) (same ?? element.querySelector('[data-rove][tabindex="0"]'))?.focus({ preventScroll: true });
}

/** Tells readers who listen to the page. */
function say(...parts) {
  fill(byId("said"), ...parts);
}

/** A number in at most four digits, or so many. */
function short(number, digits = 4) {
  if (number === null || !Number.isFinite(number)) return "";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e5 || size < 1e-3) return number.toExponential(2);
  return String(Number(number.toPrecision(digits)));
}

const clamp = (value, least, most) => Math.max(least, Math.min(most, value));

/** The least and the largest of some numbers. */
function ends(numbers) {
  return numbers.reduce(
    ([least, most], value) => [Math.min(least, value), Math.max(most, value)],
    [Infinity, -Infinity],
  );
}

const marks = (index) => `${index === state.a ? " is-a" : ""}${index === state.b ? " is-b" : ""}`;

/** What readers who listen are told of a picture's marks. */
const marksSaid = (index) => [index === state.a ? "A" : "", index === state.b ? "B" : ""].filter(Boolean).join(" and ");
