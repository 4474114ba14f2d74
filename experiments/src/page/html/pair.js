// The comparison of two pictures.

const pairOf = () => [data.cells[state.a], data.cells[state.b]];

/** Gives the stage the width that there is, and the height that the pictures have at this width. */
function sizeStage() {
  const canvas = byId("pair");
  const sharp = window.devicePixelRatio || 1;
  const width = byId("stage").clientWidth;
  const [wide, high] = sizeOf(data.cells[state.a]);
  const each = state.mode === "beside" ? width / 2 : width;
  const height = Math.max(120, Math.min((each * high) / wide, window.innerHeight * 0.85));
  const [across, down] = [Math.round(width * sharp), Math.round(height * sharp)];
  if (canvas.width !== across || canvas.height !== down) [canvas.width, canvas.height] = [across, down];
  canvas.style.height = `${height}px`;
}

function paintPair() {
  sizeStage();
  showZoom();
  const [a, b] = pairOf();
  const canvas = byId("pair");
  canvas.setAttribute("aria-label", `A: ${a.label}; B: ${b.label}; ${MODES[state.mode]}`);
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, canvas.width, canvas.height);
  byId("gain-control").hidden = state.mode !== "difference";
  byId("wipe-control").hidden = state.mode !== "wipe";
  if (state.mode === "difference") paintDifference(context, a, b);
  else byId("distance").textContent = "";
  if (state.mode === "beside") paintBeside(context, a, b);
  if (state.mode === "wipe") paintWipe(context, a, b);
  tellFull();
}

const MODES = { wipe: "wipe", beside: "side by side", difference: "difference" };

/** Paints a picture, and the attention over it, into a part of the stage. */
function paintIn(context, pane, cell) {
  const found = shot(cell, true);
  const place = placeIn(pane);
  context.save();
  context.beginPath();
  context.rect(pane.left, 0, pane.width, pane.height);
  context.clip();
  context.translate(pane.left, 0);
  if (found) drawShot(context, found, ...within(place, found.from));
  paintWord(context, cell, place);
  context.restore();
}

/** The largest rectangle with the picture's proportions in a place: A and B may have different sizes. */
function within({ left, top, width, height }, [, , wide, high]) {
  const scale = Math.min(width / wide, height / high);
  const [across, down] = Math.abs(wide / high - width / height) < 0.02 ? [width, height] : [wide * scale, high * scale];
  return [left + (width - across) / 2, top + (height - down) / 2, across, down];
}

function paintBeside(context, a, b) {
  const [left, right] = panes();
  paintIn(context, left, a);
  paintIn(context, right, b);
  line(context, right.left, right.height);
}

function paintWipe(context, a, b) {
  const [pane] = panes();
  const x = Math.round(pane.width * state.wipe);
  paintIn(context, pane, b);
  context.save();
  context.beginPath();
  context.rect(0, 0, x, pane.height);
  context.clip();
  context.clearRect(0, 0, x, pane.height);
  paintIn(context, pane, a);
  context.restore();
  line(context, x, pane.height);
}

function line(context, x, height) {
  context.fillStyle = "#000000";
  context.fillRect(x - 2, 0, 4, height);
  context.fillStyle = "#ffffff";
  context.fillRect(x - 1, 0, 2, height);
}

/** The fields and numbers of A and B, side by side. */
function buildFacts() {
  const [a, b] = pairOf();
  const row = (name, ...values) => {
    const differs = values[0] !== values[1];
    return make(
      "tr",
      { class: differs && "differs" },
      make("th", { scope: "row" }, own(name)),
      ...values.map((value) => make("td", {}, own(value))),
    );
  };
  const rows = data.axes.map((axis, index) => row(axis.name, axis.values[a.place[index]], axis.values[b.place[index]]));
  const numbers = data.numbers.map((name, index) => row(name, short(a.numbers[index]), short(b.numbers[index])));
  const column = (name) => make("th", { scope: "col", class: name.toLowerCase() }, name);
  const head = make("tr", {}, make("td"), column("A"), column("B"));
  fill(byId("facts"), make("thead", {}, head), make("tbody", {}, ...rows, ...numbers));
}

/** Everything that is needed to make A and B again. */
function buildSources() {
  const text = (cell) => cell.provenance.map((fact) => data.facts[fact]).join("\n");
  const source = (name, cell) =>
    make(
      "div",
      {},
      make("h3", { class: name.toLowerCase() }, `${name}: `, own(cell.label)),
      make("pre", { dir: "auto" }, text(cell)),
    );
  fill(byId("sources"), source("A", data.cells[state.a]), source("B", data.cells[state.b]));
}
