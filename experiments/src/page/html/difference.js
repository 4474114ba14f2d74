// The difference of A and B, pixel by pixel, at the pictures' own size.
//
// A page that was opened from a file may draw an image beside it, but not read its pixels. Then the browser draws the
// difference, as exactly, and nothing can be counted.

const GAINS = [1, 2, 4, 8, 16, 32, 64];
const BLIND_GAIN = 4; // where the largest number is not known

function paintDifference(context, a, b) {
  const [one, other] = [shot(a, true), shot(b, true)];
  const [found, said] = one && other ? remembered(one, other) : [null, ""];
  if (byId("distance").textContent !== said) byId("distance").textContent = said;
  if (!found) return;
  const [pane] = panes();
  const { left, top, width, height } = placeIn(pane);
  context.imageSmoothingEnabled = width < found.width;
  context.drawImage(found, left, top, width, height);
}

let last = { of: [], found: null };

/** The difference, computed again only if A, B or the gain are others: the view moves more often. */
function remembered(one, other) {
  const of = [one.image, ...one.from, other.image, ...other.from, one.exact && other.exact, state.gain];
  if (of.some((part, at) => part !== last.of[at])) last = { of, found: difference(one, other) };
  return last.found;
}

/** A canvas with the difference, and what is said of it. Without the runs' own pixels there is none. */
function difference(one, other) {
  const [[, , width, height], [, , wide, high]] = [one.from, other.from];
  if (!one.exact || !other.exact) return [null, "No difference: it needs the full pictures, and here are thumbnails."];
  if (width !== wide || height !== high) {
    return [null, `No difference: A has ${width} × ${height} pixels, and B ${wide} × ${high}.`];
  }
  const [first, second] = [one, other].map((shot) => pixelsOf(shot, width, height)[1]);
  return first && second ? counted(first, second, width, height) : drawn(one, other, width, height);
}

/** A picture on a canvas of its size, and its pixels if the browser lets them be read. */
function pixelsOf(found, width, height) {
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.imageSmoothingEnabled = false;
  context.drawImage(found.image, ...found.from, 0, 0, width, height);
  try {
    return [canvas, context.getImageData(0, 0, width, height).data];
  } catch {
    return [canvas, null];
  }
}

/** |A - B| of red, green and blue, enlarged, with its mean and its largest number. */
function counted(one, other, width, height) {
  const image = new ImageData(width, height);
  let [sum, most] = [0, 0];
  for (let at = 0; at < one.length; at += 4) {
    for (let band = at; band < at + 3; band++) {
      const apart = Math.abs(one[band] - other[band]);
      sum += apart;
      if (apart > most) most = apart;
      image.data[band] = apart;
    }
    image.data[at + 3] = 255;
  }
  const gain = state.gain ?? (most > 0 ? 255 / most : 1);
  if (gain !== 1) image.data.forEach((value, at) => at % 4 < 3 && (image.data[at] = value * gain));
  const canvas = make("canvas", { width, height });
  canvas.getContext("2d").putImageData(image, 0, 0);
  const shown = state.gain === null ? "which is shown brightest" : `shown × ${state.gain}`;
  const mean = sum / (3 * width * height);
  return [
    canvas,
    `|A − B| in ${width} × ${height} pixels: ${short(mean)} of 255 levels in the mean, ${most} at most, ${shown}.`,
  ];
}

/** The same, drawn by the browser alone. */
function drawn(one, other, width, height) {
  const [canvas] = pixelsOf(one, width, height);
  const context = canvas.getContext("2d");
  context.globalCompositeOperation = "difference";
  context.drawImage(other.image, ...other.from, 0, 0, width, height);
  const gain = state.gain ?? BLIND_GAIN;
  context.globalCompositeOperation = "lighter";
  for (let doubled = 1; doubled < gain; doubled *= 2) context.drawImage(canvas, 0, 0);
  return [
    canvas,
    `|A − B| in ${width} × ${height} pixels, × ${gain}. Its mean is not known: the browser lets no page read ` +
      "pictures beside it. Hint: `latentrace report --full` puts them where it may.",
  ];
}

function buildGains() {
  const options = GAINS.map((gain) => make("option", { value: gain }, `× ${gain}`));
  fill(byId("gain"), make("option", { value: "" }, "the largest brightest"), ...options);
  byId("gain").addEventListener("change", (event) => {
    state.gain = event.target.value === "" ? null : Number(event.target.value);
    paintPair();
    keep();
  });
}
