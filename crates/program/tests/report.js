// Uses a report as a reader does, and leaves what came of it in an element that the test reads.
"use strict";

const seen = [];

function holds(name, condition, found) {
  seen.push({ name, holds: Boolean(condition), found: String(found ?? "") });
}

const moment = () => new Promise((done) => setTimeout(done, 20));

/** Waits until every picture that was asked for is there and painted. */
async function settle() {
  await moment();
  const isDone = () =>
    [...sheets.values()].every((image) => image.complete) &&
    [...fulls.values()].every((full) => full.state !== "loading");
  // The browser's clock runs as fast as it can, and pictures are opened beside it: so many rounds are a second or more.
  for (let round = 0; round < 20000 && !isDone(); round++) await moment();
  await moment();
}

function pixels(canvas, left = 0, width = canvas.width) {
  const copy = make("canvas", { width, height: canvas.height }).getContext("2d", { willReadFrequently: true });
  copy.drawImage(canvas, -left, 0);
  return copy.getImageData(0, 0, width, canvas.height).data.join();
}

const first = () => document.querySelector(".cell canvas");

function set(id, value) {
  byId(id).value = String(value);
  for (const type of ["input", "change"]) byId(id).dispatchEvent(new Event(type, { bubbles: true }));
}

function pick(group, value) {
  const choice = document.querySelector(`input[name="${group}"][value="${value}"]`);
  choice.checked = true;
  choice.dispatchEvent(new Event("change", { bubbles: true }));
}

const key = (name, target = document.body) =>
  target.dispatchEvent(new KeyboardEvent("keydown", { key: name, bubbles: true, cancelable: true }));

async function slider() {
  // The browser says what is in sight when it draws, and only that is painted.
  for (let round = 0; round < 20000 && inSight.size < data.cells.length; round++) await moment();
  await settle();
  const end = pixels(first());
  set("level", 0);
  await settle();
  const noise = pixels(first());
  holds("the slider moves the pictures", noise !== end);
  holds("and says where it is", byId("level-text").textContent.includes("call 1 of"), byId("level-text").textContent);
  const said = byId("level").getAttribute("aria-valuetext");
  holds("also to those who listen", /^noise level [0-9.]+, call 1 of \d+$/.test(said), said);
  holds("and the line in the curves", document.querySelector("#chart .now").getAttribute("x1") > 0);
  pick("view", "sample");
  await settle();
  holds("the sample is not the clean estimate", pixels(first()) !== noise);
  const middle = Math.floor(levels.length / 2);
  const sigma = levels[middle];
  set("level", middle);
  const frames = data.cells.map((cell) => frameAt(cell, sigma).sigma);
  holds(
    "every run stands at about the same noise",
    frames.every((found) => Math.abs(Math.log(found / sigma)) < 1),
    frames,
  );
  key(".");
  holds("a key moves it too", byId("level").value === String(middle + 1), byId("level").value);
  pick("view", "clean");
}

async function playing() {
  set("level", 0);
  byId("play").click();
  for (let round = 0; round < 100 && state.level < 2; round++) await moment();
  holds("play goes through the levels", state.level >= 2 && byId("play").textContent === "Pause", state.level);
  key("p");
  const stopped = state.level;
  for (let round = 0; round < 100; round++) await moment();
  holds("and can be paused", state.level === stopped && byId("play").textContent === "Play", [stopped, state.level]);
  byId("play").click();
  holds("and goes on from there", state.level === stopped && byId("play").textContent === "Pause", state.level);
  for (let round = 0; round < 1000 && state.level < levels.length - 1; round++) await moment();
  holds("until the end", state.level === levels.length - 1 && byId("play").textContent === "Play", state.level);
}

async function wipe() {
  const pair = byId("pair");
  const alone = async (index) => {
    choose("a", index);
    choose("b", index);
    set("wipe", 0);
    await settle();
    return pixels(pair, 16, 80);
  };
  const [a, b] = [await alone(0), await alone(data.cells.length - 1)];
  holds("the pictures that are held against each other differ", a !== b);
  choose("a", 0);
  choose("b", data.cells.length - 1);
  set("wipe", 1000);
  await settle();
  holds("wiped to the right there is A", pixels(pair, 16, 80) === a);
  set("wipe", 0);
  await settle();
  holds("wiped to the left there is B", pixels(pair, 16, 80) === b);
  pointer("pointerdown", 0.75, 0.5);
  holds("the pointer wipes", Math.abs(state.wipe - 0.75) < 0.01, state.wipe);
  pointer("pointermove", 0.25, 0.5);
  pointer("pointerup", 0.25, 0.5);
  holds("and as long as it is down", Math.abs(state.wipe - 0.25) < 0.01, state.wipe);
  pointer("pointermove", 0.6, 0.5);
  holds("and no longer", Math.abs(state.wipe - 0.25) < 0.01, state.wipe);
}

/** Sends the stage a pointer at a fraction of its width and height. */
function pointer(type, across, down, more = {}) {
  const box = byId("pair").getBoundingClientRect();
  const place = { clientX: box.left + across * box.width, clientY: box.top + down * box.height };
  byId("stage").dispatchEvent(
    new PointerEvent(type, { ...place, buttons: 1, bubbles: true, cancelable: true, ...more }),
  );
}

/** The colour of a pixel of an image or canvas. */
function colourAt(image, x, y) {
  const own = make("canvas", { width: 1, height: 1 }).getContext("2d", { willReadFrequently: true });
  own.drawImage(image, -Math.floor(x), -Math.floor(y));
  return [...own.getImageData(0, 0, 1, 1).data].slice(0, 3);
}

async function zoom() {
  set("wipe", 1000);
  const fit = scaleNow();
  byId("zoom-in").click();
  holds(
    "plus zooms in",
    scaleNow() > fit && isZoomed() && byId("scale").textContent === `${100 * scaleNow()} %`,
    byId("scale").textContent,
  );
  key("0", byId("stage"));
  holds("a key fits again", state.zoom.scale === null && !isZoomed() && scaleNow() === fit);
  byId("one-to-one").click();
  const { width, height } = placeIn(panes()[0]);
  holds("one to one is a pixel for a pixel", width === data.size[0] && height === data.size[1], [width, height]);
  zoomTo(LARGEST_SCALE);
  setMiddle(0.3125 + 0.5 / data.size[0], 0.625 + 0.5 / data.size[1]);
  await settle();
  const image = sheet(data.cells[state.a].picture, data.cells[state.a]);
  const there = colourAt(image, 0.3125 * image.naturalWidth, 0.625 * image.naturalHeight).join();
  const inMiddle = colourAt(byId("pair"), byId("pair").width / 2, byId("pair").height / 2).join();
  holds("zoomed in, a pixel has its own colour", inMiddle === there, [inMiddle, there]);
  const [x, y] = [state.zoom.x, state.zoom.y];
  set("wipe", 0);
  pointer("pointerdown", 0.5, 0.5);
  pointer("pointermove", 0.4, 0.5);
  pointer("pointerup", 0.4, 0.5);
  const moved = (state.zoom.x - x) * data.size[0] * LARGEST_SCALE;
  holds("the pointer moves the view", Math.abs(moved - 0.1 * byId("pair").width) < 2 && state.zoom.y === y, moved);
  key("ArrowDown", byId("stage"));
  holds("so do the arrow keys", state.zoom.y > y, state.zoom.y);
  byId("stage").dispatchEvent(new WheelEvent("wheel", { deltaY: 300, ctrlKey: true, bubbles: true, cancelable: true }));
  holds("the wheel zooms out", Math.abs(scaleNow() - LARGEST_SCALE / Math.E) < 0.01, scaleNow());
  pick("mode", "beside");
  await settle();
  const [left, right] = panes();
  holds(
    "side by side both show the same part",
    left.width === right.width && placeIn(left).left === placeIn(right).left && isZoomed(),
  );
  zoomTo(null);
  pick("mode", "wipe");
}

async function differences() {
  choose("a", 0);
  choose("b", data.cells.length - 1);
  key("d");
  await settle();
  const said = () => byId("distance").textContent;
  // The same from the pixels of both pictures, by another way.
  const [one, other] = [0, data.cells.length - 1].map((index) => {
    const image = sheet(data.cells[index].picture, data.cells[index]);
    const own = make("canvas", { width: data.size[0], height: data.size[1] }).getContext("2d");
    own.drawImage(image, 0, 0);
    return [...own.getImageData(0, 0, ...data.size).data].filter((_, at) => at % 4 < 3);
  });
  const apart = one.map((level, at) => Math.abs(level - other[at]));
  const mean = short(apart.reduce((sum, level) => sum + level, 0) / apart.length);
  holds(
    "the difference is counted",
    said().includes(`${mean} of 255 levels in the mean, ${Math.max(...apart)} at most`),
    said(),
  );
  set("gain", 4);
  holds("and can be enlarged", said().endsWith("shown × 4."), said());
  set("gain", 1);
  const [place, [column, line]] = [placeIn(panes()[0]), [20, 45]];
  const at = [place.left + (column + 0.5) * scaleNow(), place.top + (line + 0.5) * scaleNow()];
  const drawn = colourAt(byId("pair"), ...at);
  const own = apart.slice(3 * (line * data.size[0] + column)).slice(0, 3);
  holds("and is drawn to the bit", drawn.join() === own.join(), [drawn, own]);
  set("gain", "");
  choose("b", 0);
  await settle();
  holds("a picture does not differ from itself", /: 0 of 255 levels in the mean, 0 at most/.test(said()), said());
  choose("b", data.cells.length - 1);
}

/** As if the page had thumbnails only: full pictures are beside it, in the files that the test has put there. */
async function full() {
  const cells = [data.cells[0], data.cells[data.cells.length - 1]];
  const said = () => byId("distance").textContent;
  const note = () => byId("full-note").textContent;
  const reopen = async (kind, files) => {
    fulls.clear();
    data.full = kind;
    cells.forEach((cell, at) => Object.assign(cell, { exact: false, full: { picture: files[at], frames: null } }));
    repaint();
    await settle();
  };
  await reopen(
    "links",
    FULL.map((full) => full.image),
  );
  holds(
    "pictures beside the page are drawn, but not counted",
    said().includes("Its mean is not known") && note() === "",
    said() + note(),
  );
  await reopen(
    "scripts",
    FULL.map((full) => full.script),
  );
  holds(
    "scripts beside the page are counted",
    /^\|A − B\| in .* of 255 levels in the mean/.test(said()) && note() === "",
    said() + note(),
  );
  await reopen("links", ["nowhere/image.png", FULL[1].image]);
  holds(
    "what is not there is named",
    note().includes("A is shown from a thumbnail: nowhere/image.png was not found") && !note().includes("B is"),
    note(),
  );
  holds("and there is no difference of thumbnails", said().startsWith("No difference: "), said());
  cells[0].size = [7, 7];
  await reopen(
    "links",
    FULL.map(({ image }) => image),
  );
  holds("so is what was made again", note().includes("A is shown") && note().includes("another size"), note());
  cells[0].size = data.size;
  await reopen("links", [null, null]);
  holds(
    "so is what the page never had",
    note().includes("no more than a thumbnail") && note().includes("--full"),
    note(),
  );
  cells.forEach((cell) => Object.assign(cell, { exact: true, full: { picture: null, frames: null } }));
  fulls.clear();
  byId("pair").width = 1; // another size makes a canvas readable again
  key("w");
  await settle();
}

async function words() {
  await settle();
  const plain = pixels(byId("pair"));
  const chips = () => [...document.querySelectorAll("#words button")];
  const red = () => chips().filter((chip) => chip.querySelector("bdi")?.textContent === "red");
  holds(
    "a word that is there three times can be chosen three times",
    red().length === 3,
    chips().map((chip) => chip.textContent),
  );
  const over = [];
  for (const nth of [0, 1, 2]) {
    red()[nth].focus();
    red()[nth].click();
    await settle();
    holds(
      `occurrence ${nth + 1} is chosen, and keeps the focus`,
      red()[nth].getAttribute("aria-pressed") === "true" && document.activeElement === red()[nth],
    );
    over.push(pixels(byId("pair")));
  }
  holds("attention lies over the picture, and each occurrence has its own", new Set([plain, ...over]).size === 4);
  red()[2].click();
  await settle();
  holds("and can be taken away", pixels(byId("pair")) === plain);
}

const heads = () => [...document.querySelectorAll("#grid thead th")].map((head) => head.textContent).join();
const cellsOf = () => [...document.querySelectorAll(".cell")];

async function grid() {
  const [before, columns] = [heads(), data.axes[state.across].values.join()];
  holds("the columns are named", before === columns, before);
  const down = data.axes[state.down].values.join();
  byId("across").focus();
  set("across", state.down);
  holds("rows and columns change places", heads() === down, heads());
  holds("and the menu keeps the focus", document.activeElement === byId("across"), document.activeElement.id);
  const box = byId("grid").getBoundingClientRect();
  holds("the grid fits the window", byId("grid").scrollWidth <= byId("grid").clientWidth && box.height < innerHeight, [
    box.width,
    box.height,
  ]);
  const cells = cellsOf();
  cells[1].click();
  await settle();
  holds("a click takes A", state.a === Number(cells[1].dataset.cell) && cells[1].matches(".is-a"), state.a);
  holds("and says so", byId("said").textContent === `A is ${data.cells[state.a].label}`, byId("said").textContent);
  holds(
    "the picture too",
    cells[1].getAttribute("aria-label") === `${data.cells[state.a].label}; A`,
    cells[1].getAttribute("aria-label"),
  );
  cells[2].dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true }));
  await settle();
  holds("one with Shift takes B", state.b === Number(cells[2].dataset.cell) && cells[2].matches(".is-b"), state.b);
  pick("takes", "b");
  cells[3].click();
  holds("and without it, where B is chosen: fingers have no Shift", state.b === Number(cells[3].dataset.cell), state.b);
  pick("takes", "a");
  set("down", NONE);
  holds(
    "one field alone flows",
    document.querySelectorAll("#grid .flow figure").length === data.axes[state.across].values.length,
  );
  set("across", NONE);
  holds("without fields all pictures flow", cellsOf().length === data.cells.length);
  const sticky = (selector) => getComputedStyle(document.querySelector(selector)).position;
  set("across", 0);
  set("down", 1);
  holds("labels stay in sight", sticky("#grid thead th") === "sticky" && sticky("#grid tbody th") === "sticky");
  set("size", 100);
  holds(
    "pictures have the size that is set",
    first().getBoundingClientRect().width === 100 && byId("fit-grid").getAttribute("aria-pressed") === "false",
  );
  byId("fit-grid").click();
  holds("until they fit again", first().getBoundingClientRect().width !== 100);
}

async function keyboard() {
  const stops = (selector) =>
    [...document.querySelectorAll(selector)].filter((element) => element.tabIndex === 0).length;
  holds(
    "the grid, the map and the table are one tab stop each",
    stops(".cell") === 1 && stops("#heat-map button") === 1 && stops("#table tbody button") === 1,
    [stops(".cell"), stops("#heat-map button"), stops("#table tbody button")],
  );
  const cells = cellsOf();
  cells[0].focus();
  key("ArrowRight", cells[0]);
  holds(
    "arrows go from picture to picture",
    document.activeElement === cells[1] && cells[1].tabIndex === 0 && stops(".cell") === 1,
    document.activeElement.title,
  );
  key("b", document.activeElement);
  holds("b takes it", state.b === Number(cells[1].dataset.cell));
  key("End", cells[1]);
  key("Home", document.activeElement);
  holds("Home and End go to the ends of a row", document.activeElement === cells[0], document.activeElement.title);
  key("ArrowDown", cells[0]);
  const below = Number(document.activeElement.dataset.cell);
  holds(
    "and down to the next row",
    below !== Number(cells[0].dataset.cell) &&
      data.cells[below].place[0] === data.cells[Number(cells[0].dataset.cell)].place[0],
    below,
  );
  arrange();
  holds(
    "the focus stays when the grid is made again",
    Number(document.activeElement.dataset.cell) === below && document.activeElement.matches(".cell"),
  );
  const rows = () => [...document.querySelectorAll("#table tbody button")];
  rows()[0].focus();
  key("ArrowDown", rows()[0]);
  holds("arrows go from row to row", document.activeElement === rows()[1]);
  rows()[1].click();
  holds(
    "a row takes its picture",
    state.a === Number(rows()[1].dataset.cell) && rows()[1].textContent === "A",
    state.a,
  );
  byId("letters").click();
  const view = state.view;
  key("x");
  holds("letters can be switched off", state.view === view);
  byId("letters").click();
  key("x");
  holds("and on", state.view !== view);
  key("x");
  const unnamed = [...document.querySelectorAll("button, select, input, canvas[role=img], svg[role=img]")].filter(
    (element) =>
      !element.closest("dialog") &&
      !(element.getAttribute("aria-label") || element.textContent.trim() || element.labels?.length),
  );
  holds(
    "every control has a name",
    unnamed.length === 0,
    unnamed.map((element) => element.outerHTML),
  );
}

async function filters() {
  const count = () => byId("count").textContent;
  const all = data.cells.length;
  holds("nothing is hidden at first", count() === `all ${all} pictures`, count());
  byId("filters").open = true;
  const box = document.querySelector('input[data-axis="0"]');
  box.focus();
  box.click();
  const values = data.axes[0].values.length;
  const left = data.cells.filter((cell) => cell.place[0] !== 0).length;
  holds(
    "a value can be hidden",
    count() === `${left} of ${all} pictures` && document.querySelectorAll("#table tbody tr").length === left,
    count(),
  );
  holds("in the grid too", heads() === data.axes[0].values.slice(1).join() && document.activeElement === box, heads());
  holds("and among the curves", chart.lines.size === left, chart.lines.size);
  box.click();
  holds(
    "and shown again",
    count() === `all ${all} pictures` && document.querySelectorAll("#grid thead th").length === values,
    count(),
  );
  const numbers = data.cells.map((cell) => cell.numbers[0]).sort((one, other) => one - other);
  const least = document.querySelector('input[data-number="0"][data-end="0"]');
  least.value = String(numbers[all - 1]);
  least.dispatchEvent(new Event("input", { bubbles: true }));
  const highest = numbers.filter((number) => number === numbers[all - 1]).length;
  holds(
    "a number has a least value",
    shownCells().length === highest && document.querySelectorAll("#grid .hidden").length === all - highest,
    count(),
  );
  set("having", "no such label");
  holds(
    "a filter may hide everything",
    shownCells().length === 0 && byId("chart").textContent.includes("hide every picture"),
    count(),
  );
  byId("clear").click();
  holds(
    "all filters are cleared at once",
    count() === `all ${all} pictures` && byId("having").value === "" && least.value === "",
    count(),
  );
  set("having", data.cells[1].label);
  holds("a label is found by its text", shownCells().includes(1) && shownCells().length < all, shownCells());
  byId("clear").click();
}

async function heat() {
  const kept = data.cells.map((cell) => cell.numbers[0]);
  data.cells.forEach((cell) => (cell.numbers[0] = 0.5));
  holds("the map begins with the first number that varies", initial().heat.of === 1, initial().heat.of);
  data.cells.forEach((cell, index) => (cell.numbers[0] = kept[index]));
  const options = [...byId("heat-of").options].map((option) => option.textContent);
  const last = [...byId("heat-of").querySelectorAll("optgroup option")].map((option) => option.textContent);
  holds(
    "numbers that do not vary are the last of the menu",
    last.includes("noise level σ, at the last call") && options.slice(-last.length).join() === last.join(),
    options,
  );
  holds("and all numbers are in it", options.length === heatNames.length, options.length);
  set("heat-of", 0);
  set("heat-across", 0);
  set("heat-down", NONE);
  const fields = () => [...document.querySelectorAll("#heat-map button")];
  const mean = (value) => {
    const numbers = data.cells.filter((cell) => cell.place[0] === value).map((cell) => cell.numbers[0]);
    return short(numbers.reduce((sum, number) => sum + number, 0) / numbers.length, 3);
  };
  holds(
    "the map has means over the other fields",
    fields()
      .map((field) => field.textContent)
      .join() === data.axes[0].values.map((_, value) => mean(value)).join(),
    fields().map((field) => field.textContent),
  );
  holds(
    "and says over which",
    byId("heat-scale").textContent.endsWith(`each the mean over ${data.axes[1].name}`),
    byId("heat-scale").textContent,
  );
  set("heat-down", 1);
  holds("but not where it has every field", !byId("heat-scale").textContent.includes("mean"));
  holds(
    "over two fields it has every picture",
    fields().length === data.cells.length && fields()[0].title === data.cells[0].label,
    fields().length,
  );
  const [low, high] = ends(fields().map((field) => Number(field.textContent)));
  const ground = (number) =>
    getComputedStyle(fields().find((field) => Number(field.textContent) === number)).backgroundColor;
  holds(
    "the ends have the ends of the colours",
    ground(low) === `rgb(${data.palette[0].join(", ")})` && ground(high) === `rgb(${data.palette[255].join(", ")})`,
    [ground(low), ground(high)],
  );
  fields()[0].focus();
  key("ArrowRight", fields()[0]);
  document.activeElement.click();
  holds("a place takes its picture", data.cells[state.a].place[0] === 1 && data.cells[state.a].place[1] === 0, state.a);
  set("heat-of", heatNames.length - 1);
  holds(
    "curves are mapped too",
    fields().length === data.cells.length && fields().every((field) => field.textContent !== ""),
  );
}

async function tables() {
  const column = data.axes.length + data.numbers.indexOf("saturation");
  const button = () => document.querySelectorAll("#table thead button")[column];
  const values = () =>
    [...document.querySelectorAll("#table tbody tr")].map((line) => Number(line.children[column + 1].textContent));
  button().focus();
  button().click();
  const up = values();
  holds(
    "numbers are sorted",
    up.every((value, index) => index === 0 || up[index - 1] <= value),
    up,
  );
  holds(
    "the head says so and keeps the focus",
    document.activeElement === button() && button().parentElement.getAttribute("aria-sort") === "ascending",
  );
  button().click();
  holds("and turned round", values().join() === up.reverse().join(), values());
  const files = {};
  const [made, click] = [URL.createObjectURL, HTMLAnchorElement.prototype.click];
  HTMLAnchorElement.prototype.click = () => {}; // nothing is saved
  URL.createObjectURL = (blob) => {
    files.last = blob;
    return "#";
  };
  const tables = [
    ["numbers-csv", "guidance,seed", data.cells.length],
    ["curves-csv", "picture,call,sigma", 2],
    ["heat-csv", "seed,guidance,", data.cells.length],
  ];
  for (const [id, start, least] of tables) {
    byId(id).click();
    const text = await files.last.text();
    holds(`${id} gives a table`, text.startsWith(start) && text.trim().split("\n").length > least, text.slice(0, 60));
  }
  document.querySelector('#words [data-key="words-csv"]').click();
  holds("attention too", (await files.last.text()).includes(",red,3,"));
  document.querySelector("#figures button").click();
  holds("a figure gives its numbers", (await files.last.text()) === data.figures[0].csv);
  [URL.createObjectURL, HTMLAnchorElement.prototype.click] = [made, click];
}

/** Opens another address of the page, as a reader does who follows a link. */
async function open(hash) {
  const seen = new Promise((done) => addEventListener("hashchange", done, { once: true }));
  location.hash = hash;
  await seen;
  await settle();
}

async function links() {
  await open("#a=0");
  const start = JSON.stringify(written());
  choose("a", 1);
  choose("b", 2);
  set("level", 2);
  pick("view", "sample");
  pick("mode", "difference");
  set("gain", 16);
  byId("wide").click();
  zoomTo(3, [40, 60]);
  selectWord({ word: "red", nth: 2 });
  set("down", NONE);
  set("across", 1);
  set("axis-0", 1);
  set("size", 120);
  document.querySelector('input[data-axis="1"]').click();
  set("having", "guidance");
  const most = document.querySelector('input[data-number="1"][data-end="1"]');
  most.value = "0.9";
  most.dispatchEvent(new Event("input", { bubbles: true }));
  sortBy(1);
  sortBy(1);
  set("heat-of", 1);
  set("column", 2);
  set("against", "sigma");
  pick("takes", "b");
  key("t");
  const [before, seen] = [JSON.stringify(written()), pixels(byId("pair"))];
  for (let round = 0; round < 20; round++) await moment();
  const link = location.hash;
  holds(
    "the address keeps what is looked at",
    link.includes("zoom=3_") && link.includes("having=guidance") && link.includes("word=2+red"),
    link,
  );
  await open("#a=0");
  holds(
    "another address shows the start",
    JSON.stringify(written()) === start && byId("scale").textContent !== "300 %",
    location.hash,
  );
  await open(link);
  holds("a link shows the same again", JSON.stringify(written()) === before, JSON.stringify(written()));
  const shown = [
    byId("gain").value,
    byId("column").value,
    byId("having").value,
    byId("scale").textContent,
    most.value,
    byId("axis-0").value,
  ];
  holds("in every control", shown.join() === "16,2,guidance,300 %,0.9,1", shown);
  holds("and on the stage", pixels(byId("pair")) === seen && byId("wide").getAttribute("aria-pressed") === "true");
  await open(
    "#a=99&level=-1&zoom=x_y&across=7&between=0:a~b&heat=9.9.9&sort=99&word=red&gain=3&mode=%3Cb%3E&at=1.1.1.1",
  );
  holds(
    "an address with nonsense shows the start",
    state.a === 0 &&
      state.mode === "wipe" &&
      state.zoom.scale === null &&
      state.sort.column === null &&
      state.gain === null,
    location.hash,
  );
  await open("#a=0");
}

async function page() {
  const text = document.body.innerHTML;
  holds("a prompt is text", !document.querySelector("b, i, #grid img, [onerror]") && window.harmed === undefined);
  const title = byId("title").textContent;
  const isWhole = title.includes("<b>bold</b>") && title.includes('"red" square\nשלום');
  holds("and shown as it was written", isWhole, title);
  holds(
    "its lines are lines, and its direction its own",
    getComputedStyle(byId("title")).whiteSpace === "pre-wrap" && byId("title").dir === "auto",
  );
  const ground = () => getComputedStyle(document.body).backgroundColor;
  const before = ground();
  key("t");
  holds("light and dark", ground() !== before, ground());
  key("?");
  holds("the keys are listed", byId("help").open);
  byId("help").close();
  holds(
    "the figures are there",
    [...document.querySelectorAll("#figures img")].every((image) => image.src.startsWith("data:")) &&
      data.figures.length > 0,
  );
  holds("where it comes from", byId("sources").textContent.includes("blake3") && text.length > 0);
  holds("as JSON", JSON.parse(document.querySelector("#sources pre").textContent).cell.prompt.includes("שלום"));
  holds(
    "nothing is wider than the window",
    document.documentElement.scrollWidth <= innerWidth,
    document.documentElement.scrollWidth,
  );
}

addEventListener("load", async () => {
  try {
    for (const part of [
      slider,
      playing,
      wipe,
      zoom,
      differences,
      full,
      words,
      grid,
      keyboard,
      filters,
      heat,
      tables,
      links,
      page,
    ])
      await part();
  } catch (error) {
    holds("the page is used to the end", false, error.stack);
  }
  document.body.append(make("pre", { id: "seen" }, JSON.stringify(seen)));
});
