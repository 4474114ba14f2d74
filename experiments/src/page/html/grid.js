// The grid of pictures.

/** A table if two fields are on the axes; otherwise one picture after the other. */
function buildGrid() {
  const { across, down } = state;
  const place = (column, row) =>
    data.axes.map((_, axis) => (axis === across ? column : axis === down ? row : state.fixed[axis])).join();
  if (across >= 0 && down >= 0) {
    const [columns, rows] = [data.axes[across], data.axes[down]];
    const head = make("tr", {}, make("th", { scope: "col" }, `${rows.name} \\ ${columns.name}`));
    columns.values.forEach((value) => head.append(make("th", { scope: "col" }, value)));
    const line = (value, row) =>
      make("tr", {}, make("th", { scope: "row" }, value), ...columns.values.map((_, column) => make("td", {}, button(cellOf.get(place(column, row))))));
    const body = make("tbody", {}, ...rows.values.map(line));
    return fill(byId("grid"), make("table", {}, make("thead", {}, head), body));
  }
  const only = Math.max(across, down);
  const count = only >= 0 ? data.axes[only].values.length : 1;
  const caption = (column) => (only >= 0 ? `${data.axes[only].name} ${data.axes[only].values[column]}` : data.cells[0].label);
  const figures = Array.from({ length: count }, (_, column) => {
    const index = cellOf.get(data.axes.map((_, axis) => (axis === only ? column : state.fixed[axis])).join());
    return make("figure", {}, button(index), make("figcaption", {}, caption(column)));
  });
  fill(byId("grid"), make("div", { class: "flow" }, ...figures));
}

/** A button with the picture, or hatching where there is none. */
function button(index) {
  if (index === undefined) return make("div", { class: "missing", title: "no such picture" });
  const label = data.cells[index].label;
  const press = (event) => choose(event.shiftKey || event.altKey ? "b" : "a", index);
  return make("button", { class: "cell", type: "button", "data-cell": index, title: label, "aria-label": label, onclick: press }, make("canvas"));
}

function paintGrid() {
  const width = Number(byId("size").value);
  const height = Math.round((width * data.size[1]) / data.size[0]);
  for (const element of document.querySelectorAll(".cell")) {
    const index = Number(element.dataset.cell);
    const canvas = element.firstChild;
    const sharp = Math.min(2, window.devicePixelRatio || 1);
    canvas.width = Math.min(Math.round(width * sharp), Math.max(data.size[0], data.cells[index].frameSize[0]));
    canvas.height = Math.round((canvas.width * data.size[1]) / data.size[0]);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    drawCell(canvas.getContext("2d"), data.cells[index], 0, 0, canvas.width, canvas.height);
    element.className = `cell${marks(index)}`;
  }
  for (const element of document.querySelectorAll(".missing")) {
    element.style.width = `${width}px`;
    element.style.height = `${height}px`;
  }
}

/** Moves the focus to the next picture in a direction. */
function walk(columns, rows) {
  const cells = [...document.querySelectorAll(".cell")];
  const here = document.activeElement.closest?.(".cell");
  if (!here) return cells[0]?.focus();
  const [x, y] = centre(here);
  const [dx, dy] = [Math.sign(columns), Math.sign(rows)];
  let best = null;
  for (const cell of cells) {
    const [along, aside] = [(centre(cell)[0] - x) * dx + (centre(cell)[1] - y) * dy, Math.abs((centre(cell)[0] - x) * dy) + Math.abs((centre(cell)[1] - y) * dx)];
    if (along > 1 && aside <= along && (!best || along + 2 * aside < best.far)) best = { cell, far: along + 2 * aside };
  }
  best?.cell.focus();
}

function centre(element) {
  const box = element.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}
