// Which pictures are shown: values of the fields, ranges of the numbers, and text in the label.

let shown = null; // the cells that pass, by index; null until it is known

function passes(cell) {
  const inRange = ([least, most], index) => {
    const number = cell.numbers[index];
    if (least === null && most === null) return true;
    return number !== null && number >= (least ?? -Infinity) && number <= (most ?? Infinity);
  };
  return (
    cell.label.toLocaleLowerCase().includes(state.having.toLocaleLowerCase()) &&
    state.only.every((values, axis) => values === null || values.has(cell.place[axis])) &&
    state.between.every(inRange)
  );
}

/** The indices of the cells that pass the filters. */
function shownCells() {
  shown ??= new Set(data.cells.map((_, index) => index).filter((index) => passes(data.cells[index])));
  return [...shown];
}

function isShown(index) {
  shownCells();
  return shown.has(index);
}

/** What must be done after a filter has changed. */
function applyFilters() {
  shown = null;
  for (const axis of data.axes.keys()) {
    const values = shownValues(axis);
    if (values.length > 0 && !values.includes(state.fixed[axis])) state.fixed[axis] = values[0];
  }
  const [count, all] = [shownCells().length, data.cells.length];
  const named = all === 1 ? "1 picture" : `${all} pictures`;
  byId("count").textContent = count < all ? `${count} of ${named}` : all === 1 ? named : `all ${named}`;
  byId("clear").disabled = count === all && !isFiltered();
  arrange();
  buildTable();
  buildHeat();
  paintCurves();
  keep();
}

const isFiltered = () =>
  state.having !== "" ||
  state.only.some((values) => values !== null) ||
  state.between.flat().some((end) => end !== null);

/** The controls. They are made once, so that the focus stays where it is. */
function buildFilters() {
  const having = make("input", {
    id: "having",
    type: "search",
    dir: "auto",
    autocomplete: "off",
    oninput: (event) => {
      state.having = event.target.value;
      applyFilters();
    },
  });
  const label = make("label", { class: "line" }, "the label contains ", having);
  fill(byId("filter-fields"), label, ...data.axes.map(valueFilter), ...(data.numbers.length ? [numberFilters()] : []));
  byId("clear").addEventListener("click", () => {
    Object.assign(state, { only: initial().only, between: initial().between, having: "" });
    showFilters();
    applyFilters();
  });
}

/** A box for each value of a field. */
function valueFilter({ name, values }, axis) {
  const change = () => {
    const boxes = [...document.querySelectorAll(`input[data-axis="${axis}"]`)];
    const values = boxes.filter((box) => box.checked).map((box) => Number(box.value));
    state.only[axis] = values.length === boxes.length ? null : new Set(values);
    applyFilters();
  };
  const all = (checked) => () => {
    for (const box of document.querySelectorAll(`input[data-axis="${axis}"]`)) box.checked = checked;
    change();
  };
  const boxes = values.map((value, index) =>
    make(
      "label",
      {},
      make("input", { type: "checkbox", "data-axis": axis, value: index, onchange: change }),
      own(value),
    ),
  );
  const buttons = [
    ["all", true],
    ["none", false],
  ].map(([word, checked]) =>
    make("button", { type: "button", "aria-label": `${word} of ${name}`, onclick: all(checked) }, word),
  );
  return make("fieldset", { class: "values" }, make("legend", {}, own(name)), ...buttons, ...boxes);
}

/** A least and a largest value for each number. */
function numberFilters() {
  const end = (index, at, word) => {
    const known = ends(data.cells.map((cell) => cell.numbers[index]).filter((number) => number !== null))[at];
    const change = (event) => {
      const text = event.target.value.trim();
      state.between[index][at] = text === "" || !Number.isFinite(Number(text)) ? null : Number(text);
      applyFilters();
    };
    return make("input", {
      type: "number",
      step: "any",
      "data-number": index,
      "data-end": at,
      placeholder: short(known),
      "aria-label": `${data.numbers[index]} ${word}`,
      oninput: change,
    });
  };
  const line = (name, index) =>
    make("div", { class: "range" }, own(name), " from ", end(index, 0, "at least"), " to ", end(index, 1, "at most"));
  return make("fieldset", { class: "ranges" }, make("legend", {}, "Numbers"), ...data.numbers.map(line));
}

/** Writes the state into the controls. */
function showFilters() {
  byId("having").value = state.having;
  for (const box of document.querySelectorAll("input[data-axis]")) {
    box.checked = state.only[box.dataset.axis]?.has(Number(box.value)) ?? true;
  }
  for (const input of document.querySelectorAll("input[data-number]")) {
    const end = state.between[input.dataset.number][input.dataset.end];
    input.value = end === null ? "" : String(end);
  }
}
