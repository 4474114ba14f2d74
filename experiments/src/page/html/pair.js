// The comparison of two pictures, and attention to a word of the prompt.

function paintPair() {
  const canvas = byId("pair");
  const [a, b] = [data.cells[state.a], data.cells[state.b]];
  const times = Math.max(1, Math.floor(384 / data.size[0]));
  const [width, height] = [data.size[0] * times, data.size[1] * times];
  canvas.width = state.mode === "beside" ? 2 * width : width;
  canvas.height = height;
  canvas.style.maxWidth = `${state.mode === "beside" ? 440 : 400}px`;
  canvas.setAttribute("aria-label", `A: ${a.label}; B: ${b.label}; ${state.mode}`);
  const context = canvas.getContext("2d");
  byId("distance").textContent = "";
  if (state.mode === "difference") return paintDifference(context, a, b, width, height);
  const one = (cell, left) => {
    drawCell(context, cell, left, 0, width, height);
    paintWord(context, cell, left, width, height);
  };
  if (state.mode === "beside") {
    one(a, 0);
    one(b, width);
    return line(context, width, height);
  }
  one(b, 0);
  context.save();
  context.beginPath();
  context.rect(0, 0, width * state.wipe, height);
  context.clip();
  one(a, 0);
  context.restore();
  line(context, width * state.wipe, height);
}

function line(context, x, height) {
  context.fillStyle = "#000000";
  context.fillRect(x - 2, 0, 4, height);
  context.fillStyle = "#ffffff";
  context.fillRect(x - 1, 0, 2, height);
}

/** The mean of |A - B| over red, green and blue, scaled so that the largest is white. */
function paintDifference(context, a, b, width, height) {
  const pixels = [a, b].map((cell) => {
    const own = make("canvas", { width: data.size[0], height: data.size[1] }).getContext("2d", { willReadFrequently: true });
    return drawCell(own, cell, 0, 0, data.size[0], data.size[1]) ? own.getImageData(0, 0, data.size[0], data.size[1]) : null;
  });
  if (pixels.includes(null)) return;
  const [one, other] = pixels.map((image) => image.data);
  const apart = new Float32Array(one.length / 4);
  apart.forEach((_, at) => {
    for (let band = 0; band < 3; band++) apart[at] += Math.abs(one[4 * at + band] - other[4 * at + band]) / 3;
  });
  const largest = apart.reduce((most, value) => Math.max(most, value), 0);
  const mean = apart.reduce((sum, value) => sum + value, 0) / apart.length;
  const image = new ImageData(data.size[0], data.size[1]);
  apart.forEach((value, at) => {
    const level = largest > 0 ? (value * 255) / largest : 0;
    image.data.set([level, level, level, 255], 4 * at);
  });
  const own = make("canvas", { width: data.size[0], height: data.size[1] });
  own.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(own, 0, 0, width, height);
  byId("distance").textContent = `|A − B|: ${short(mean)} of 255 levels in the mean, ${short(largest)} at most, which is shown white`;
}

/** Lays the selected word's map over a picture. */
function paintWord(context, cell, left, width, height) {
  const word = cell.words.find((known) => known.word === state.word);
  if (!word) return;
  const map = make("canvas", { width: word.columns, height: word.rows });
  const image = new ImageData(word.columns, word.rows);
  [...atob(word.map)].forEach((letter, at) => {
    const level = letter.charCodeAt(0);
    image.data.set([...data.palette[level], 60 + 0.6 * level], 4 * at);
  });
  map.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(map, left, 0, width, height);
}

/** Buttons for the words whose attention was recorded in A or B. */
function buildWords() {
  const words = [...new Set([state.a, state.b].flatMap((index) => data.cells[index].words.map((word) => word.word)))];
  if (!words.includes(state.word)) state.word = null;
  const press = (word) => () => {
    state.word = state.word === word ? null : word;
    buildWords();
    repaint();
  };
  const chips = words.map((word) => make("button", { type: "button", "aria-pressed": String(word === state.word), onclick: press(word) }, word));
  const table = () => {
    const lines = [["picture", "word", "row", "column", "attention of 255"]];
    for (const cell of [data.cells[state.a], data.cells[state.b]]) {
      for (const word of cell.words) {
        [...atob(word.map)].forEach((letter, at) =>
          lines.push([cell.label, word.word, Math.floor(at / word.columns), at % word.columns, letter.charCodeAt(0)]));
      }
    }
    download("attention.csv", lines);
  };
  fill(byId("words"), ...(words.length ? [make("span", { class: "of" }, "attention to"), ...chips, make("button", { type: "button", onclick: table }, "CSV")] : []));
}

/** The fields and numbers of A and B, side by side. */
function buildFacts() {
  const row = (name, a, b) => make("tr", {}, make("th", { scope: "row" }, name), make("td", { class: "a-value" }, a), make("td", {}, b));
  const [a, b] = [data.cells[state.a], data.cells[state.b]];
  const rows = data.axes.map((axis, index) => row(axis.name, axis.values[a.place[index]], axis.values[b.place[index]]));
  const numbers = data.numbers.map((name, index) => row(name, short(a.numbers[index]), short(b.numbers[index])));
  const head = make("tr", {}, make("th"), make("th", { scope: "col", class: "a" }, "A"), make("th", { scope: "col", class: "b" }, "B"));
  fill(byId("facts"), make("thead", {}, head), make("tbody", {}, ...rows, ...numbers));
}

function buildSources() {
  const source = (name, cell) => make("div", {}, make("h3", { class: name }, `${name.toUpperCase()}: ${cell.label}`), make("pre", {}, cell.provenance));
  fill(byId("sources"), source("a", data.cells[state.a]), source("b", data.cells[state.b]));
}
