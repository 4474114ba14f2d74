// Attention to a word of the prompt, over the pictures. A word that occurs several times has a map for each occurrence.

const isSelected = (known) => state.word !== null && known.word === state.word.word && known.nth === state.word.nth;

/** Lays the selected word's map over a picture. */
function paintWord(context, cell, { left, top, width, height }) {
  const word = cell.words.find(isSelected);
  if (!word) return;
  const map = make("canvas", { width: word.columns, height: word.rows });
  const image = new ImageData(word.columns, word.rows);
  bytes(word.map).forEach((level, at) => image.data.set([...data.palette[level], 60 + 0.6 * level], 4 * at));
  map.getContext("2d").putImageData(image, 0, 0);
  context.imageSmoothingEnabled = true;
  context.drawImage(map, left, top, width, height);
}

/** The words whose attention was recorded in A or B, each occurrence once, in the order of the prompts. */
function wordsOfPair() {
  const found = new Map();
  for (const { word, nth } of pairOf().flatMap((cell) => cell.words)) found.set(`${word} ${nth}`, { word, nth });
  return [...found.values()];
}

/** A button for each word. */
function buildWords() {
  const words = wordsOfPair();
  if (!words.some(isSelected)) state.word = null;
  const repeated = (word) => words.some((other) => other.word === word.word && other.nth > 1);
  const chip = (word, index) => {
    const press = () => selectWord(isSelected(word) ? null : word);
    const attributes = {
      type: "button",
      "data-key": `word-${index}`,
      "aria-pressed": String(isSelected(word)),
      onclick: press,
    };
    const nth = repeated(word)
      ? [
          make("sub", { "aria-hidden": "true" }, word.nth),
          make("span", { class: "unseen" }, `, occurrence ${word.nth}`),
        ]
      : [];
    return make("button", attributes, own(word.word), ...nth);
  };
  const table = make("button", { type: "button", "data-key": "words-csv", onclick: wordsTable }, "CSV");
  byId("words").hidden = words.length === 0;
  fill(byId("words"), make("span", { class: "of", id: "words-name" }, "attention to"), ...words.map(chip), table);
}

function selectWord(word) {
  state.word = word;
  buildWords();
  paintPair();
  keep();
}

function wordsTable() {
  const lines = [["picture", "word", "occurrence", "row", "column", "rows", "columns", "attention of 255"]];
  for (const cell of pairOf()) {
    for (const { word, nth, rows, columns, map } of cell.words) {
      bytes(map).forEach((level, at) =>
        lines.push([cell.label, word, nth, Math.floor(at / columns), at % columns, rows, columns, level]),
      );
    }
  }
  download("attention.csv", lines);
}
