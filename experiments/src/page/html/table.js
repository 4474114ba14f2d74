// The table: a row for each picture, with what varies and what was measured.

const columnNames = [...data.axes.map((axis) => axis.name), ...data.numbers];

function row(index) {
  const cell = data.cells[index];
  return [...data.axes.map((axis, at) => axis.values[cell.place[at]]), ...cell.numbers];
}

function buildTable() {
  const { column, down } = state.sort;
  const order = data.cells.map((_, index) => index);
  if (column !== null) {
    const key = (index) => (column < data.axes.length ? data.cells[index].place[column] : data.cells[index].numbers[column - data.axes.length]);
    const known = (value) => value !== null && value !== undefined;
    order.sort((one, other) => {
      const [a, b] = [key(one), key(other)];
      if (!known(a) || !known(b)) return Number(known(b)) - Number(known(a)); // undefined values come last
      return (a - b) * (down ? -1 : 1);
    });
  }
  const head = make("tr", {}, ...columnNames.map((name, index) => {
    const sorted = column === index ? (down ? "descending" : "ascending") : "none";
    const arrow = column === index ? (down ? " ↓" : " ↑") : "";
    return make("th", { scope: "col", "aria-sort": sorted }, make("button", { type: "button", onclick: () => sortBy(index) }, name + arrow));
  }));
  const line = (index) => {
    const values = row(index).map((value) => (typeof value === "string" ? make("td", {}, value) : make("td", { class: "number" }, short(value))));
    return make("tr", { class: marks(index).trim(), "data-row": index, onclick: (event) => choose(event.shiftKey || event.altKey ? "b" : "a", index) }, ...values);
  };
  fill(byId("table"), make("thead", {}, head), make("tbody", {}, ...order.map(line)));
}

function sortBy(column) {
  state.sort = { column, down: state.sort.column === column && !state.sort.down };
  buildTable();
}

function markTable() {
  for (const line of document.querySelectorAll("#table tbody tr")) line.className = marks(Number(line.dataset.row)).trim();
}

/** The experiment's figures, each with its numbers. */
function buildFigures() {
  byId("figures").hidden = data.figures.length === 0;
  const figure = ({ name, source, csv }) => {
    const numbers = csv === null ? [] : [make("button", { type: "button", onclick: () => save(`${name}.csv`, "text/csv", csv) }, "CSV")];
    return make("figure", {}, make("div", { class: "row" }, make("h3", {}, name), ...numbers), make("img", { src: source, alt: name, loading: "lazy" }));
  };
  fill(byId("figures"), make("h2", {}, "Figures"), ...data.figures.map(figure));
}
