// Event handlers, and the start of the page.

/** Selects a picture as A or as B. */
function choose(which, index) {
  state[which] = index;
  byId(which).value = String(index);
  buildWords();
  buildFacts();
  buildSources();
  markTable();
  byId("curve-name").textContent = legend();
  paintCurves();
  repaint();
  keep();
}

function setLevel(level) {
  state.level = Math.max(0, Math.min(levels.length - 1, level));
  byId("level").value = String(state.level);
  const sigma = levels[state.level];
  const frame = frameAt(data.cells[state.a], sigma);
  byId("level-text").textContent = frame ? `σ ${short(sigma)}, call ${frame.call + 1} of ${data.cells[state.a].sigmas.length}` : "the picture";
  paintCurves();
  repaint();
  keep();
}

function setView(view) {
  state.view = view;
  document.querySelector(`input[name="view"][value="${view}"]`).checked = true;
  repaint();
}

function setMode(mode) {
  state.mode = mode;
  document.querySelector(`input[name="mode"][value="${mode}"]`).checked = true;
  byId("wipe").disabled = mode !== "wipe";
  repaint();
}

function setWipe(wipe) {
  state.wipe = Math.max(0, Math.min(1, wipe));
  byId("wipe").value = String(Math.round(1000 * state.wipe));
  repaint();
}

/** Menus for the fields along columns and rows, and for the values of the other fields. */
function buildAxes() {
  const names = data.axes.map((axis, index) => make("option", { value: index }, axis.name));
  const way = (key, label) => {
    const options = [make("option", { value: -1 }, "–"), ...names.map((name) => name.cloneNode(true))];
    const change = (event) => {
      const [value, other] = [Number(event.target.value), key === "across" ? "down" : "across"];
      if (value >= 0 && value === state[other]) state[other] = state[key];
      state[key] = value;
      arrange();
    };
    const select = make("select", { id: key, onchange: change }, ...options);
    select.value = String(state[key]);
    return make("label", {}, label, select);
  };
  const value = (axis, index) => {
    const change = (event) => {
      state.fixed[index] = Number(event.target.value);
      arrange();
    };
    const options = axis.values.map((value, at) => make("option", { value: at }, value));
    const select = make("select", { id: `axis-${index}`, onchange: change }, ...options);
    select.value = String(state.fixed[index]);
    return make("label", {}, axis.name, select);
  };
  const rest = data.axes.map((axis, index) => [axis, index]).filter(([, index]) => index !== state.across && index !== state.down);
  const ways = data.axes.length > 0 ? [way("across", "Across"), way("down", "Down")] : [];
  fill(byId("axes"), ...ways, ...rest.map(([axis, index]) => value(axis, index)));
}

function arrange() {
  buildAxes();
  buildGrid();
  repaint();
}

/** Writes the selection into the address, so that a link shows the same. */
function keep() {
  const { a, b, level } = state;
  history.replaceState(null, "", `#a=${a}&b=${b}&level=${level}`);
}

function restore() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const number = (name, most, without) => {
    const value = Number.parseInt(asked.get(name), 10);
    return value >= 0 && value <= most ? value : without;
  };
  choose("b", number("b", data.cells.length - 1, state.b));
  choose("a", number("a", data.cells.length - 1, state.a));
  setLevel(number("level", levels.length - 1, levels.length - 1));
}

let playing = null;

function play() {
  clearInterval(playing);
  setLevel(0);
  playing = setInterval(() => {
    setLevel(state.level + 1);
    if (state.level === levels.length - 1) clearInterval(playing);
  }, Math.max(60, 3000 / levels.length));
}

function theme() {
  const dark = document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  document.documentElement.dataset.theme = dark === "dark" ? "light" : "dark";
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select") || byId("help").open) return;
  const focused = () => Number(document.activeElement.closest?.(".cell")?.dataset.cell ?? -1);
  const take = (which) => focused() >= 0 && choose(which, focused());
  const keys = {
    ArrowLeft: () => walk(-1, 0), ArrowRight: () => walk(1, 0), ArrowUp: () => walk(0, -1), ArrowDown: () => walk(0, 1),
    a: () => take("a"), b: () => take("b"), ",": () => setLevel(state.level - 1), ".": () => setLevel(state.level + 1),
    x: () => setView(state.view === "clean" ? "sample" : "clean"), w: () => setMode("wipe"), s: () => setMode("beside"),
    d: () => setMode("difference"), p: play, t: theme, "?": () => byId("help").showModal(),
  };
  if (!keys[event.key]) return;
  event.preventDefault();
  keys[event.key]();
}

function drag(event) {
  if (state.mode !== "wipe" || (event.type === "pointermove" && event.buttons === 0)) return;
  const box = byId("pair").getBoundingClientRect();
  setWipe((event.clientX - box.left) / box.width);
}

function begin() {
  byId("title").textContent = data.title;
  for (const which of ["a", "b"]) {
    fill(byId(which), ...data.cells.map((cell, index) => make("option", { value: index }, cell.label)));
    byId(which).addEventListener("change", (event) => choose(which, Number(event.target.value)));
  }
  fill(byId("column"), ...data.columns.map((column) => make("option", { value: column.name }, column.label)));
  const telling = data.columns.find((column) => column.name === "rms_epsilon_difference"); // sigma is the same in most runs
  if (telling) byId("column").value = telling.name;
  byId("level").max = String(levels.length - 1);
  for (const id of ["level-control", "view"]) byId(id).hidden = levels.length === 1;
  byId("curves").hidden = data.columns.length === 0;
  byId("size").value = String(Math.max(64, Math.min(256, data.size[0] < 200 ? 128 : 224)));

  byId("level").addEventListener("input", (event) => setLevel(Number(event.target.value)));
  byId("wipe").addEventListener("input", (event) => setWipe(Number(event.target.value) / 1000));
  byId("size").addEventListener("input", repaint);
  window.addEventListener("resize", paintCurves);
  byId("column").addEventListener("change", paintCurves);
  byId("against").addEventListener("change", paintCurves);
  byId("view").addEventListener("change", (event) => setView(event.target.value));
  byId("mode").addEventListener("change", (event) => setMode(event.target.value));
  byId("swap").addEventListener("click", () => {
    const { a, b } = state;
    choose("a", b);
    choose("b", a);
  });
  byId("play").addEventListener("click", play);
  byId("theme").addEventListener("click", theme);
  byId("keys").addEventListener("click", () => byId("help").showModal());
  byId("curves-csv").addEventListener("click", curvesTable);
  byId("numbers-csv").addEventListener("click", () => download("numbers.csv", [columnNames, ...data.cells.map((_, index) => row(index))]));
  for (const type of ["pointerdown", "pointermove"]) byId("pair").addEventListener(type, drag);
  byId("pair").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    if (!step || state.mode !== "wipe") return;
    event.preventDefault();
    event.stopPropagation();
    setWipe(state.wipe + step);
  });
  document.addEventListener("keydown", press);

  buildAxes();
  buildGrid();
  buildTable();
  buildFigures();
  restore();
}

begin();
