// The view onto the pictures that are compared: how large they are, and which part is seen.
//
// `state.zoom.scale` is the number of screen pixels for a pixel of the run; null fits the picture into the view.
// `x` and `y` are the point in the middle of the view, as fractions of the picture.

const LARGEST_SCALE = 32;
const SCALES = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 3, 4, 6, 8, 12, 16, 24, LARGEST_SCALE];

/** The parts of the stage, in screen pixels: one, or two beside each other that show the same part of A and of B. */
function panes() {
  const { width, height } = byId("pair");
  if (state.mode !== "beside") return [{ left: 0, width, height }];
  const half = Math.floor(width / 2);
  return [
    { left: 0, width: half, height },
    { left: width - half, width: half, height },
  ];
}

/** The scale at which the whole picture is seen; a whole number where the picture is smaller than the view. */
function fitScale() {
  const [pane, [width, height]] = [panes()[0], sizeOf(data.cells[state.a])];
  const scale = Math.min(pane.width / width, pane.height / height);
  return scale >= 1 ? Math.floor(scale) : scale;
}

const scaleNow = () => state.zoom.scale ?? fitScale();

/** Where the picture is: its left and top edge in the pane, and its size, in screen pixels. */
function placeIn(pane) {
  const scale = scaleNow();
  const [width, height] = sizeOf(data.cells[state.a]).map((side) => side * scale);
  const edge = (room, length, middle) =>
    Math.round(length <= room ? (room - length) / 2 : clamp(room / 2 - middle * length, room - length, 0));
  return { left: edge(pane.width, width, state.zoom.x), top: edge(pane.height, height, state.zoom.y), width, height };
}

/** Sets the middle of the view, but shows no more empty room than there must be. */
function setMiddle(x, y) {
  const [pane, place] = [panes()[0], placeIn(panes()[0])];
  const within = (middle, room, length) => {
    const margin = room / 2 / length;
    return length <= room ? 0.5 : clamp(middle, margin, 1 - margin);
  };
  state.zoom.x = within(x, pane.width, place.width);
  state.zoom.y = within(y, pane.height, place.height);
  showZoom();
  paintPair();
  keep();
}

/** Moves the picture by screen pixels. */
function pan(dx, dy) {
  const { width, height } = placeIn(panes()[0]);
  setMiddle(state.zoom.x - dx / width, state.zoom.y - dy / height);
}

/** Changes the scale; what is at a point of the pane, in screen pixels, stays there. */
function zoomTo(scale, at) {
  const pane = panes()[0];
  const [px, py] = at ?? [pane.width / 2, pane.height / 2];
  const before = placeIn(pane);
  const [u, v] = [(px - before.left) / before.width, (py - before.top) / before.height];
  state.zoom.scale = scale === null ? null : clamp(scale, Math.min(1, fitScale()), LARGEST_SCALE);
  const [width, height] = sizeOf(data.cells[state.a]).map((side) => side * scaleNow());
  setMiddle(u + (pane.width / 2 - px) / width, v + (pane.height / 2 - py) / height);
}

function zoomIn() {
  zoomTo(SCALES.find((scale) => scale > scaleNow() * 1.01) ?? LARGEST_SCALE);
}

function zoomOut() {
  zoomTo(SCALES.findLast((scale) => scale < scaleNow() / 1.01) ?? 0);
}

function showZoom() {
  byId("scale").textContent = `${Number((100 * scaleNow()).toPrecision(3))} %`;
  byId("fit").setAttribute("aria-pressed", String(state.zoom.scale === null));
  const isWhole = placeIn(panes()[0]).width <= panes()[0].width && placeIn(panes()[0]).height <= panes()[0].height;
  byId("stage").classList.toggle("is-zoomed", !isWhole);
}

const isZoomed = () => byId("stage").classList.contains("is-zoomed");

/** The pointers that are down on the stage, by their id, with their places in screen pixels. */
const pointers = new Map();
let dragged = null; // "wipe" or "pan"

function pointIn(event) {
  const [canvas, box] = [byId("pair"), byId("pair").getBoundingClientRect()];
  const sharp = canvas.width / box.width;
  return [(event.clientX - box.left) * sharp, (event.clientY - box.top) * sharp];
}

/** Where a point of the stage is in its pane. */
function pointInPane([x, y]) {
  const pane = panes().findLast((pane) => x >= pane.left) ?? panes()[0];
  return [x - pane.left, y];
}

function pointerDown(event) {
  if (event.button !== 0) return;
  const point = pointIn(event);
  pointers.set(event.pointerId, point);
  const isNearWipe = Math.abs(point[0] - state.wipe * byId("pair").width) < 24;
  dragged = state.mode === "wipe" && (!isZoomed() || isNearWipe) ? "wipe" : "pan";
  if (pointers.size > 1) dragged = "pan";
  else if (dragged === "wipe") setWipe(point[0] / byId("pair").width);
}

function pointerMove(event) {
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const point = pointIn(event);
  const others = [...pointers].filter(([id]) => id !== event.pointerId).map(([, other]) => other);
  pointers.set(event.pointerId, point);
  if (others.length > 0) return pinch(others[0], before, point);
  if (dragged === "wipe") return setWipe(point[0] / byId("pair").width);
  pan(point[0] - before[0], point[1] - before[1]);
}

function pinch(fixed, before, after) {
  const apart = (point) => Math.hypot(point[0] - fixed[0], point[1] - fixed[1]);
  const middle = [(fixed[0] + after[0]) / 2, (fixed[1] + after[1]) / 2];
  if (apart(before) > 0) zoomTo((scaleNow() * apart(after)) / apart(before), pointInPane(middle));
}

function pointerUp(event) {
  pointers.delete(event.pointerId);
}

/** The wheel zooms with Ctrl, as it does when two fingers are spread on a touchpad, and always once zoomed in. */
function wheel(event) {
  if (!event.ctrlKey && !isZoomed()) return;
  event.preventDefault();
  zoomTo(scaleNow() * Math.exp(-event.deltaY / 300), pointInPane(pointIn(event)));
}

function stageKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const direction = DIRECTIONS[event.key];
  const pane = panes()[0];
  const move = () => {
    if (state.mode === "wipe" && (event.shiftKey || !isZoomed())) return setWipe(state.wipe + 0.05 * direction[0]);
    return pan(-direction[0] * pane.width * 0.1, -direction[1] * pane.height * 0.1);
  };
  const keys = { "+": zoomIn, "=": zoomIn, "-": zoomOut, 0: () => zoomTo(null), 1: () => zoomTo(1) };
  const act = direction ? move : keys[event.key];
  if (!act || (direction?.[1] && !isZoomed())) return;
  event.preventDefault();
  event.stopPropagation();
  act();
}

function beginZoom() {
  byId("stage").addEventListener("pointerdown", pointerDown);
  document.addEventListener("pointermove", pointerMove);
  for (const type of ["pointerup", "pointercancel"]) document.addEventListener(type, pointerUp);
  byId("stage").addEventListener("wheel", wheel, { passive: false });
  byId("stage").addEventListener("keydown", stageKey);
  byId("zoom-in").addEventListener("click", zoomIn);
  byId("zoom-out").addEventListener("click", zoomOut);
  byId("one-to-one").addEventListener("click", () => zoomTo(1));
  byId("fit").addEventListener("click", () => zoomTo(null));
}
