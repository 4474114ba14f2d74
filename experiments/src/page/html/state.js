"use strict";
// The data of the page, and what the reader has selected.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);

/** The noise levels of the slider: all that have frames, from high to low, then 0 for the final picture. */
const levels = [...new Set(data.cells.flatMap((cell) => cell.frames.map((frame) => frame.sigma)))]
  .sort((one, other) => other - one);
levels.push(0);

const state = {
  across: data.axes.length - 1, // the field along the columns, or -1
  down: data.axes.length - 2,
  fixed: data.axes.map(() => 0), // the selected value of each field that is on neither axis
  view: "clean",
  level: levels.length - 1,
  a: 0,
  b: data.cells.length - 1,
  mode: "wipe",
  wipe: 0.5,
  word: null,
  near: null, // the curve under the pointer
  sort: { column: null, down: false },
};

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

function fill(element, ...children) {
  element.replaceChildren(...children);
}

/** A number in at most four digits. */
function short(number) {
  if (number === null || !Number.isFinite(number)) return "";
  if (number === 0) return "0";
  const size = Math.abs(number);
  if (size >= 1e5 || size < 1e-3) return number.toExponential(2);
  return String(Number(number.toPrecision(4)));
}

/** Offers rows of values as a CSV file, quoted after RFC 4180. */
function download(name, lines) {
  const quoted = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  save(name, "text/csv", lines.map((line) => line.map(quoted).join(",") + "\n").join(""));
}

function save(name, kind, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type: kind })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const marks = (index) => `${index === state.a ? " is-a" : ""}${index === state.b ? " is-b" : ""}`;
