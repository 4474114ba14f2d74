// A heat map of any number over two fields: the mean over the pictures that are shown.

/** What can be mapped: the measures, and every curve at the last call. */
const heatNames = [...data.numbers, ...data.columns.map((column) => `${column.label}, at the last call`)];

function heatNumber(cell, of) {
  if (of < data.numbers.length) return cell.numbers[of] ?? NaN;
  const numbers = series(cell.curves[of - data.numbers.length]);
  return numbers.length > 0 ? numbers[numbers.length - 1] : NaN;
}

/** Whether the map could show two pictures with different numbers. */
function heatVaries(of) {
  let first = "";
  return data.cells.some((cell) => {
    const text = short(heatNumber(cell, of), HEAT_DIGITS);
    first ||= text;
    return text !== "" && text !== first;
  });
}

/** The number that the map begins with: the first that varies, or the first of all. */
function startHeat() {
  for (let of = 0; of < data.numbers.length + data.columns.length; of++) if (heatVaries(of)) return of;
  return 0;
}

/** For each pair of values the cells that have them, with the mean of their numbers. */
function heatFields() {
  const { of, across, down } = state.heat;
  const fields = new Map();
  for (const index of shownCells()) {
    const number = heatNumber(data.cells[index], of);
    if (!Number.isFinite(number)) continue;
    const [column, row] = [across, down].map((axis) => (axis === NONE ? 0 : data.cells[index].place[axis]));
    const field = fields.get(`${row} ${column}`) ?? { cells: [], sum: 0 };
    field.cells.push(index);
    field.sum += number;
    fields.set(`${row} ${column}`, field);
  }
  for (const field of fields.values()) field.mean = field.sum / field.cells.length;
  return fields;
}

function buildHeat() {
  if (byId("heat").hidden) return; // nothing was measured, or nothing varies
  const fields = heatFields();
  const [low, high] = ends([...fields.values()].map((field) => field.mean));
  const values = (axis) => (axis === NONE ? [0] : shownValues(axis));
  const label = (axis, value) => (axis === NONE ? "all" : data.axes[axis].values[value]);
  const { across, down } = state.heat;
  const name = (axis) => (axis === NONE ? "" : data.axes[axis].name);
  const heads = values(across).map((value) => headOf("col", label(across, value)));
  const head = make("tr", {}, cornerOf(name(down), name(across)), ...heads);
  const line = (row) => {
    const boxes = values(across).map((column) => heatField(fields.get(`${row} ${column}`), low, high));
    return make("tr", {}, headOf("row", label(down, row)), ...boxes);
  };
  const lines = values(down).map(line);
  const body = make("tbody", {}, ...lines);
  stopAt(body, stopOf(byId("heat-map"), body));
  fill(byId("heat-map"), make("thead", {}, head), body);
  paintScale(low, high);
}

/** A place of the map: its number on its colour. A press takes the first of its pictures. */
function heatField(field, low, high) {
  if (!field) return make("td", { class: "empty" }, make("span", { class: "unseen" }, "nothing"));
  const colour = data.palette[Math.round((high > low ? (field.mean - low) / (high - low) : 0.5) * 255)];
  const count = field.cells.length;
  const attributes = {
    type: "button",
    "data-rove": true,
    tabindex: -1,
    "data-key": `heat-${field.cells[0]}`,
    style: `background: rgb(${colour}); color: ${inkOn(colour)}`,
    title: count === 1 ? data.cells[field.cells[0]].label : `the mean of ${count} pictures`,
    onclick: (event) => choose(taking(event), field.cells[0]),
  };
  return make("td", {}, make("button", attributes, short(field.mean, HEAT_DIGITS)));
}

/** Black or white, whichever has more contrast: at least 4.5 on every colour (WCAG 2). */
function inkOn(colour) {
  const linear = colour.map((level) => (level <= 10 ? level / 3294 : ((level / 255 + 0.055) / 1.055) ** 2.4));
  const light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  return light > 0.179 ? "#000000" : "#ffffff";
}

function paintScale(low, high) {
  const stops = data.palette.filter((_, level) => level % 15 === 0).map((colour) => `rgb(${colour})`);
  const isKnown = Number.isFinite(low);
  const means = pooledAxes().map((axis) => data.axes[axis].name);
  const over = means.length > 0 ? [make("span", {}, `each the mean over ${means.join(" and ")}`)] : [];
  const bar = make("span", { class: "scale", style: `background: linear-gradient(to right, ${stops.join()})` });
  fill(byId("heat-scale"), ...(isKnown ? [short(low), bar, short(high), ...over] : ["none of the pictures has this number"]));
}

/** The fields over whose values the map takes the mean: those that are on neither side and vary in what is shown. */
function pooledAxes() {
  const { across, down } = state.heat;
  const varies = (axis) => new Set(shownCells().map((index) => data.cells[index].place[axis])).size > 1;
  return [...data.axes.keys()].filter((axis) => axis !== across && axis !== down && varies(axis));
}

/** The numbers of the menu. Those that do not vary come last. */
function heatOptions() {
  const option = (of) => make("option", { value: of }, heatNames[of]);
  const those = (varies) => [...heatNames.keys()].filter((of) => heatVaries(of) === varies).map(option);
  const [varying, same] = [those(true), those(false)];
  const label = "no difference between the pictures";
  return same.length > 0 ? [...varying, make("optgroup", { label }, ...same)] : varying;
}

/** The menus. */
function buildHeatMenus() {
  const axes = [
    make("option", { value: NONE }, "–"),
    ...data.axes.map((axis, index) => make("option", { value: index }, axis.name)),
  ];
  fill(byId("heat-of"), ...heatOptions());
  for (const way of ["across", "down"]) fill(byId(`heat-${way}`), ...axes.map((option) => option.cloneNode(true)));
  for (const part of ["of", "across", "down"]) {
    byId(`heat-${part}`).addEventListener("change", (event) => setHeat(part, Number(event.target.value)));
  }
}

function setHeat(part, value) {
  const { heat } = state;
  const other = { across: "down", down: "across" }[part];
  if (other && value !== NONE && heat[other] === value) heat[other] = heat[part];
  heat[part] = value;
  showHeat();
  buildHeat();
  keep();
}

function showHeat() {
  for (const part of ["of", "across", "down"]) byId(`heat-${part}`).value = String(state.heat[part]);
}

/** The map as a table, a row for each place. */
function heatTable() {
  const { of, across, down } = state.heat;
  const axes = [down, across];
  const lines = [[...axes.map((axis) => data.axes[axis]?.name ?? ""), heatNames[of], "pictures"]];
  for (const [place, field] of heatFields()) {
    const values = place.split(" ").map((value, at) => data.axes[axes[at]]?.values[Number(value)] ?? "");
    lines.push([...values, field.mean, field.cells.length]);
  }
  download("heat-map.csv", lines);
}
