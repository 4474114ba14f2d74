// The grid of pictures.

/** Room around a picture in the grid, for its border and the gap. */
const AROUND = 18;
const LEAST_SIZE = 32;
const MOST_SIZE = 512;
/** Under smaller pictures there is no room for their labels, which are in their tooltips too. */
const LEAST_CAPTION = 110;

/** The values of a field that are shown. */
const shownValues = (axis) =>
  data.axes[axis].values.map((_, value) => value).filter((value) => state.only[axis]?.has(value) ?? true);

/** The fields that are on neither side of the grid, each at one value. */
const fixedAxes = () =>
  isGallery() || state.down === REST
    ? []
    : data.axes.map((_, axis) => axis).filter((axis) => axis !== state.across && axis !== state.down);

/** Whether no field is on a side, and all pictures follow each other. */
const isGallery = () => Math.max(state.across, state.down) === NONE;

/** What stands along one side: names, and for each place the values that it asks for, by field. */
function side(axis) {
  if (axis !== REST) {
    const { name, values } = data.axes[axis];
    return { name, places: shownValues(axis).map((value) => ({ label: values[value], asks: [[axis, value]] })) };
  }
  const axes = data.axes.map((_, index) => index).filter((index) => index !== state.across);
  const places = new Map();
  for (const cell of shownCells().map((index) => data.cells[index])) {
    const asks = axes.map((index) => [index, cell.place[index]]);
    const label = asks.map(([index, value]) => data.axes[index].labels[value]).join(", ");
    places.set(asks.join(";"), { label, asks });
  }
  return { name: "", places: [...places.values()] };
}

/** The cell with some values; the fields that are not named have their selected ones. */
function cellAt(...asks) {
  const place = [...state.fixed];
  for (const [axis, value] of asks.flat()) place[axis] = value;
  return cellOf.get(place.join());
}

/** A table if two fields are on the sides; otherwise one picture after the other. */
function buildGrid() {
  const { across, down } = state;
  const box = byId("grid");
  const [left, top] = [box.scrollLeft, box.scrollTop];
  watch.disconnect();
  inSight.clear();
  const content = across !== NONE && down !== NONE ? gridTable(side(across), side(down)) : flow();
  stopAt(content, stopOf(box, content, state.a));
  fill(box, content);
  canvasOf.clear();
  for (const cell of content.querySelectorAll(".cell")) {
    canvasOf.set(Number(cell.dataset.cell), cell);
    watch.observe(cell);
  }
  sizeGrid();
  box.scrollTo(left, top);
  nameCells();
}

function gridTable(columns, rows) {
  const heads = columns.places.map(({ label }) => headOf("col", label));
  const head = make("tr", {}, cornerOf(rows.name, columns.name), ...heads);
  const line = (row) => {
    const cells = columns.places.map((column) => make("td", {}, button(cellAt(row.asks, column.asks))));
    return make("tr", {}, headOf("row", row.label), ...cells);
  };
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows.places.map(line)));
}

/** The pictures of one field, or, without a field, all that are shown, in the order of the table. */
function flow() {
  const only = Math.max(state.across, state.down);
  const figure = (index, caption) => make("figure", {}, button(index), make("figcaption", { dir: "auto" }, caption));
  if (isGallery())
    return make("div", { class: "flow" }, ...sortedCells().map((index) => figure(index, data.cells[index].label)));
  const { places } = side(only);
  return make(
    "div",
    { class: "flow" },
    ...places.map(({ asks }) => figure(cellAt(asks), data.axes[only].labels[asks[0][1]])),
  );
}

/** A button with the picture; hatching where there is none, and nothing where a filter hides it. */
function button(index) {
  if (index === undefined) return make("div", { class: "missing", title: "no such picture" });
  if (!isShown(index)) return make("div", { class: "hidden", title: "hidden by the filters" });
  const attributes = {
    class: "cell",
    type: "button",
    "data-cell": index,
    "data-key": `cell-${index}`,
    "data-rove": true,
    tabindex: -1,
    title: data.cells[index].label,
    onclick: (event) => choose(taking(event), index),
  };
  return make("button", attributes, make("canvas"));
}

/** Which of A and B a press selects: the other one with Shift or Alt. */
const taking = (event) => ((event.shiftKey || event.altKey) === (state.takes === "a") ? "b" : "a");

/** The buttons of the grid, by their cell, and the cells that are in sight. */
const canvasOf = new Map();
const inSight = new Set();

/** Only what is in sight, or nearly, is painted. */
const watch = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      const index = Number(target.dataset.cell);
      if (!isIntersecting) inSight.delete(index);
      else if (canvasOf.get(index) === target) inSight.add(index);
    }
    inSight.forEach(paintCell);
  },
  { rootMargin: "200px" },
);

/** The size at which all of the grid is seen at once, if that is not too small. */
function fitSize() {
  const box = byId("grid");
  box.style.setProperty("--wide", `${LEAST_SIZE}px`); // heads of columns are as wide as the pictures
  const room = [box.clientWidth - 2, window.innerHeight - byId("bar").offsetHeight - 60];
  const flowing = box.querySelector(".flow");
  if (flowing) return fitFlow(flowing.childElementCount, room);
  const [columns, rows] = [box.querySelectorAll("thead th").length, box.querySelectorAll("tbody tr").length];
  const heads = [box.querySelector("tbody th")?.offsetWidth ?? 0, box.querySelector("thead")?.offsetHeight ?? 0];
  const [width, height] = [(room[0] - heads[0]) / Math.max(1, columns), (room[1] - heads[1]) / Math.max(1, rows)];
  return Math.min(width - AROUND, (height - AROUND) * ratio());
}

/** The largest size at which so many pictures have room. */
function fitFlow(count, [width, height]) {
  for (let columns = 1; columns <= count; columns++) {
    const size = (width - 24) / columns - AROUND - 8;
    const caption = isGallery() && size < LEAST_CAPTION ? 0 : 50;
    if (Math.ceil(count / columns) * (size / ratio() + AROUND + caption) <= height) return size;
  }
  return LEAST_SIZE;
}

/** Width by height of the pictures. */
const ratio = () => data.size[0] / data.size[1];

let gridSize = [LEAST_SIZE, LEAST_SIZE];

function sizeGrid() {
  const size = Math.round(clamp(state.size ?? fitSize(), LEAST_SIZE, MOST_SIZE));
  gridSize = [size, Math.round(size / ratio())];
  byId("size").value = String(size);
  byId("size").setAttribute("aria-valuetext", `${size} pixels wide${state.size === null ? ", fits the window" : ""}`);
  byId("fit-grid").setAttribute("aria-pressed", String(state.size === null));
  byId("grid").classList.toggle("is-bare", isGallery() && size < LEAST_CAPTION);
  ["--wide", "--high"].forEach((name, at) => byId("grid").style.setProperty(name, `${gridSize[at]}px`));
}

function paintGrid() {
  inSight.forEach(paintCell);
}

function paintCell(index) {
  const canvas = canvasOf.get(index)?.firstChild;
  if (!canvas || !inSight.has(index)) return;
  const sharp = Math.min(2, window.devicePixelRatio || 1);
  const [width, height] = gridSize.map((side) => Math.round(side * sharp));
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const found = shot(data.cells[index], false);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  if (found) drawShot(context, found, ...within({ left: 0, top: 0, width, height }, found.from));
}

/** Marks A and B. */
function nameCells() {
  for (const [index, cell] of canvasOf) {
    cell.className = `cell${marks(index)}`;
    const said = marksSaid(index);
    cell.setAttribute("aria-label", said ? `${data.cells[index].label}; ${said}` : data.cells[index].label);
    cell.dataset.mark = said.replace(" and ", " ");
  }
}

/** Where a key goes in the grid. */
function gridMove(key, here) {
  const cells = [...canvasOf.values()];
  const line = here.closest("tr")?.querySelectorAll(".cell") ?? cells;
  if (DIRECTIONS[key]) return inDirection(here, cells, DIRECTIONS[key]);
  if (key === "Home") return line[0];
  return key === "End" ? line[line.length - 1] : undefined;
}
