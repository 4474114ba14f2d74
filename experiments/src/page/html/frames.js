// A cell's picture at a noise level.

const sheets = new Map();

/** An image of the page, decoded when it is first needed. */
function sheet(source) {
  let image = sheets.get(source);
  if (!image) {
    image = new Image();
    image.addEventListener("load", () => repaint());
    image.src = source;
    sheets.set(source, image);
  }
  return image;
}

/** The cell's frame whose noise level is nearest in its logarithm; null at level 0, which is the final picture. */
function frameAt(cell, sigma) {
  if (sigma === 0 || cell.frames.length === 0) return null;
  const far = (frame) => Math.abs(Math.log(frame.sigma / sigma));
  return cell.frames.reduce((best, frame) => (far(frame) < far(best) ? frame : best));
}

/** Draws the cell at the selected level; returns false while its image is not decoded. */
function drawCell(context, cell, left, top, width, height) {
  const frame = frameAt(cell, levels[state.level]);
  const image = sheet(frame ? cell.sheets[state.view] : cell.picture);
  if (!image.complete || image.naturalWidth === 0) return false;
  const [wide, high] = frame ? cell.frameSize : [image.naturalWidth, image.naturalHeight];
  const from = frame ? cell.frames.indexOf(frame) * wide : 0;
  context.imageSmoothingEnabled = width < wide; // small pictures keep their pixels
  context.drawImage(image, from, 0, wide, high, left, top, width, height);
  return true;
}

let wanted = false;

/** Paints everything that shows pictures, once after the current event. */
function repaint() {
  if (wanted) return;
  wanted = true;
  queueMicrotask(() => {
    wanted = false;
    paintGrid();
    paintPair();
  });
}
