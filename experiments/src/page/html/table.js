// The table: a row for each picture that is shown, with what varies and what was measured.

const columnNames = [...data.axes.map((axis) => axis.name), ...data.numbers];

function row(index) {
  const cell = data.cells[index];
  return [...data.axes.map((axis, at) => axis.values[cell.place[at]]), ...cell.numbers];
}

/** The cells that are shown, in the order that the reader has chosen. */
function sortedCells() {
  const { column, down } = state.sort;
  const order = shownCells();
  if (column === null) return order;
  const key = (index) =>
    column < data.axes.length ? data.cells[index].place[column] : data.cells[index].numbers[column - data.axes.length];
  const known = (value) => value !== null && value !== undefined;
  return order.sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (!known(a) || !known(b)) return Number(known(b)) - Number(known(a)); // undefined values come last
    return (a - b) * (down ? -1 : 1);
  });
}

function buildTable() {
  const { column, down } = state.sort;
  const head = columnNames.map((name, index) => {
    const sorted = column === index ? (down ? "descending" : "ascending") : null;
    const arrow = column === index ? make("span", { "aria-hidden": "true" }, down ? " ↓" : " ↑") : "";
    const attributes = { type: "button", "data-key": `sort-${index}`, onclick: () => sortBy(index) };
    return make("th", { scope: "col", "aria-sort": sorted }, make("button", attributes, own(name), arrow));
  });
  const corner = make("th", { scope: "col" }, make("span", { class: "unseen" }, "picture"));
  const body = make("tbody", {}, ...sortedCells().map(tableRow));
  stopAt(body, stopOf(byId("table"), body, state.a));
  fill(byId("table"), make("thead", {}, make("tr", {}, corner, ...head)), body);
  markTable();
}

/** A row, headed by a button that takes its picture. */
function tableRow(index) {
  const press = (event) => choose(taking(event), index);
  const attributes = {
    type: "button",
    "data-rove": true,
    tabindex: -1,
    "data-cell": index,
    "data-key": `row-${index}`,
  };
  const head = make("th", { scope: "row" }, make("button", attributes));
  const values = row(index).map((value) =>
    typeof value === "string" ? make("td", { dir: "auto" }, value) : make("td", { class: "number" }, short(value)),
  );
  return make("tr", { "data-row": index, onclick: press }, head, ...values);
}

function sortBy(column) {
  state.sort = { column, down: state.sort.column === column && !state.sort.down };
  buildTable();
  if (isGallery()) buildGrid();
  say(`sorted by ${columnNames[column]}, ${state.sort.down ? "from large to small" : "from small to large"}`);
  keep();
}

/** Marks the rows of A and B. */
function markTable() {
  for (const line of byId("table").querySelectorAll("tbody tr")) {
    const index = Number(line.dataset.row);
    const [button, said] = [line.querySelector("button"), marksSaid(index)];
    line.className = marks(index).trim();
    button.textContent = said.replace(" and ", " ") || "take";
    button.setAttribute("aria-label", said ? `${data.cells[index].label}; ${said}` : `take ${data.cells[index].label}`);
  }
}

/** Where a key goes in the table. */
function tableMove(key, here) {
  const rows = [...byId("table").querySelectorAll("tbody button")];
  const at = rows.indexOf(here);
  const to = { ArrowUp: at - 1, ArrowDown: at + 1, Home: 0, End: rows.length - 1, PageUp: at - 10, PageDown: at + 10 }[
    key
  ];
  return to === undefined ? undefined : rows[clamp(to, 0, rows.length - 1)];
}

/** The experiment's figures, each with its numbers; one that is too large for the page is a link to its file. */
function buildFigures() {
  byId("figures").hidden = data.figures.length === 0;
  const figure = ({ name, source, csv, files }) => {
    const numbers =
      csv === null
        ? []
        : [make("button", { type: "button", onclick: () => save(`${name}.csv`, "text/csv", csv) }, "CSV")];
    const links = files.map((file) => make("a", { href: beside(file) }, file));
    const image = source === null ? [] : [make("img", { src: source, alt: name, loading: "lazy" })];
    return make("figure", {}, make("div", { class: "row" }, make("h3", {}, name), ...numbers, ...links), ...image);
  };
  fill(byId("figures"), make("h2", {}, "Figures"), ...data.figures.map(figure));
}
