// A cell's picture at a noise level.

const sheets = new Map();

/** An image of the page, decoded when it is first needed. */
function sheet(source, cell) {
  let image = sheets.get(source);
  if (!image) {
    image = new Image();
    image.addEventListener("load", () => arrived(cell));
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

/**
 * What shows a cell at the selected level: an image, the rectangle of it, and whether it has the run's own pixels.
 * `large` asks for the full picture; until that is there, the thumbnail is shown. Null if nothing is decoded yet.
 */
function shot(cell, large) {
  const frame = frameAt(cell, levels[state.level]);
  if (!frame) {
    const exact = cell.exact ? null : large && fullImage(cell, "picture");
    const image = exact || sheet(cell.picture, cell);
    return (
      ready(image) && {
        image,
        from: [0, 0, image.naturalWidth, image.naturalHeight],
        exact: Boolean(exact) || cell.exact,
      }
    );
  }
  const { column } = frame;
  const exact = cell.framesExact ? null : large && fullImage(cell, "frames");
  if (exact) {
    const [width, height] = cell.frameFull;
    return { image: exact, from: [column * width, state.view === "sample" ? 0 : height, width, height], exact: true };
  }
  const image = sheet(cell.sheets[state.view], cell);
  const [width, height] = cell.frameSize;
  return ready(image) && { image, from: [column * width, 0, width, height], exact: cell.framesExact };
}

const ready = (image) => (image.complete && image.naturalWidth > 0 ? image : null);

/** The size of a cell's picture at the selected level, in pixels of the run. */
function sizeOf(cell) {
  return frameAt(cell, levels[state.level]) ? cell.frameFull : cell.size;
}

/** Draws what shows a cell; small pictures keep their pixels. */
function drawShot(context, { image, from }, left, top, width, height) {
  context.imageSmoothingEnabled = width < from[2];
  context.imageSmoothingQuality = "high";
  context.drawImage(image, ...from, left, top, width, height);
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

/** Paints what shows a cell whose image has been decoded. */
function arrived(cell) {
  const index = data.cells.indexOf(cell);
  paintCell(index);
  if (index === state.a || index === state.b) paintPair();
}
