// Event handlers, and the start of the page.

/** Selects a picture as A or as B. */
function choose(which, index) {
  state[which] = index;
  showPair();
  say(`${which.toUpperCase()} is `, own(data.cells[index].label));
  keep();
}

/** Everything that depends on which pictures are A and B. */
function showPair() {
  for (const which of ["a", "b"]) byId(which).value = String(state[which]);
  buildWords();
  buildFacts();
  buildSources();
  nameCells();
  markTable();
  tellCurves();
  markCurves();
  paintNow();
  showLevel();
  repaint();
}

function setMode(mode) {
  state.mode = mode;
  document.querySelector(`input[name="mode"][value="${mode}"]`).checked = true;
  setMiddle(state.zoom.x, state.zoom.y);
}

function setWipe(wipe) {
  state.wipe = clamp(wipe, 0, 1);
  byId("wipe").value = String(Math.round(1000 * state.wipe));
  byId("wipe").setAttribute("aria-valuetext", `A on ${Math.round(100 * state.wipe)} percent`);
  paintPair();
  keep();
}

function setWide(wide) {
  state.wide = wide;
  showWide();
  sizeGrid();
  paintCurves();
  setMiddle(state.zoom.x, state.zoom.y);
  repaint();
}

function showWide() {
  document.querySelector("main").classList.toggle("is-wide", state.wide);
  byId("wide").setAttribute("aria-pressed", String(state.wide));
}

/** Menus for the fields along columns and rows, and for the values of the other fields. */
function buildAxes() {
  const ways = data.axes.length > 0 ? [wayMenu("across", "Across"), wayMenu("down", "Down")] : [];
  fill(byId("axes"), ...ways, ...fixedAxes().map(valueMenu));
}

function wayMenu(way, label) {
  const other = { across: "down", down: "across" }[way];
  const options = [
    make("option", { value: NONE }, "–"),
    ...data.axes.map((axis, index) => make("option", { value: index }, axis.name)),
  ];
  if (way === "down" && data.axes.length > 2) options.push(make("option", { value: REST }, "all other fields"));
  const change = (event) => {
    const value = Number(event.target.value);
    if (value >= 0 && value === state[other]) state[other] = state[way];
    if (state.across === REST) state.across = NONE;
    state[way] = value;
    arrange();
    keep();
  };
  const select = make("select", { id: way, onchange: change }, ...options);
  select.value = String(state[way]);
  return make("label", {}, label, select);
}

function valueMenu(axis) {
  const change = (event) => {
    state.fixed[axis] = Number(event.target.value);
    arrange();
    keep();
  };
  const { name, values } = data.axes[axis];
  const options = shownValues(axis).map((value) => make("option", { value, dir: "auto" }, values[value]));
  const select = make("select", { id: `axis-${axis}`, onchange: change }, ...options);
  select.value = String(state.fixed[axis]);
  return make("label", {}, own(name), select);
}

function arrange() {
  buildAxes();
  buildGrid();
  repaint();
}

function theme() {
  const dark = state.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  state.theme = dark === "dark" ? "light" : "dark";
  showTheme();
  keep();
}

function showTheme() {
  if (state.theme) document.documentElement.dataset.theme = state.theme;
  else delete document.documentElement.dataset.theme;
}

function press(event) {
  const isTyping = event.target.matches(
    "select, textarea, input:not([type=radio]):not([type=checkbox]):not([type=range])",
  );
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping || byId("help").open || !state.letters) return;
  const focused = Number(event.target.closest?.("[data-cell]")?.dataset.cell ?? -1);
  const take = (which) => focused >= 0 && choose(which, focused);
  const keys = {
    a: () => take("a"),
    b: () => take("b"),
    ",": () => setLevel(state.level - 1),
    ".": () => setLevel(state.level + 1),
    x: () => setView(state.view === "clean" ? "sample" : "clean"),
    w: () => setMode("wipe"),
    s: () => setMode("beside"),
    d: () => setMode("difference"),
    p: playOrPause,
    t: theme,
    "?": () => byId("help").showModal(),
  };
  if (!Object.hasOwn(keys, event.key)) return;
  event.preventDefault();
  keys[event.key]();
}

/** Shows all of the state: at the start, and when the address was changed. */
function showAll() {
  if (isPlaying()) pause();
  showTheme();
  showWide();
  showFilters();
  showHeat();
  for (const name of ["view", "mode", "takes"]) {
    document.querySelector(`input[name="${name}"][value="${state[name]}"]`).checked = true;
  }
  if (data.columns.length > 0) byId("column").value = String(state.column);
  byId("against").value = state.against;
  byId("gain").value = state.gain === null ? "" : String(state.gain);
  byId("letters").checked = state.letters;
  byId("wipe").value = String(Math.round(1000 * state.wipe));
  applyFilters();
  showPair();
}

/** Makes what never changes. */
function build() {
  byId("title").textContent = data.title;
  byId("title").dir = "auto";
  for (const which of ["a", "b"]) {
    fill(byId(which), ...data.cells.map((cell, index) => make("option", { value: index, dir: "auto" }, cell.label)));
  }
  byId("level").max = String(levels.length - 1);
  byId("bar").hidden = levels.length === 1;
  byId("curves").hidden = data.columns.length === 0;
  for (const id of ["numbers", "facts"]) byId(id).hidden = columnNames.length === 0;
  byId("heat").hidden = heatNames.length === 0 || data.axes.length === 0;
  buildColumns();
  buildGains();
  buildFilters();
  buildHeatMenus();
  buildFigures();
}

function listen() {
  const on = (id, type, act) => byId(id).addEventListener(type, act);
  for (const which of ["a", "b"]) on(which, "change", (event) => choose(which, Number(event.target.value)));
  on("level", "input", (event) => setLevel(Number(event.target.value)));
  on("wipe", "input", (event) => setWipe(Number(event.target.value) / 1000));
  on("size", "input", (event) => setSize(Number(event.target.value)));
  on("fit-grid", "click", () => setSize(null));
  on("view", "change", (event) => setView(event.target.value));
  on("mode", "change", (event) => setMode(event.target.value));
  on("takes", "change", (event) => {
    state.takes = event.target.value;
    keep();
  });
  on("letters", "change", (event) => {
    state.letters = event.target.checked;
    keep();
  });
  on("swap", "click", () => {
    [state.a, state.b] = [state.b, state.a];
    showPair();
    say("A is ", own(data.cells[state.a].label), ", B is ", own(data.cells[state.b].label));
    keep();
  });
  on("wide", "click", () => setWide(!state.wide));
  on("play", "click", playOrPause);
  on("theme", "click", theme);
  on("keys", "click", () => byId("help").showModal());
  on("heat-csv", "click", heatTable);
  on("numbers-csv", "click", () => download("numbers.csv", [columnNames, ...sortedCells().map(row)]));
  rove(byId("grid"), gridMove);
  rove(byId("table"), tableMove);
  rove(
    byId("heat-map"),
    (key, here) => DIRECTIONS[key] && inDirection(here, byId("heat-map").querySelectorAll("button"), DIRECTIONS[key]),
  );
  beginZoom();
  document.addEventListener("keydown", press);
  window.addEventListener("resize", resized);
  window.addEventListener("hashchange", () => {
    readLink();
    showAll();
  });
}

function setSize(size) {
  state.size = size;
  sizeGrid();
  repaint();
  keep();
}

let lastWidth = window.innerWidth;

/** Phones change the height of the window while one scrolls, which changes nothing here. */
function resized() {
  if (window.innerWidth !== lastWidth) paintCurves();
  lastWidth = window.innerWidth;
  sizeGrid();
  repaint();
}

build();
listen();
readLink();
showAll();
