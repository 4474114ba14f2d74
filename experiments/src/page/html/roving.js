// Lists and tables of which one element is a tab stop, and the arrow keys go to the others.

/** Makes one element of a container the tab stop. */
function stopAt(container, element) {
  for (const old of container.querySelectorAll('[data-rove][tabindex="0"]')) old.tabIndex = -1;
  if (element) element.tabIndex = 0;
}

/** The element of new content that becomes the tab stop: that of the cell as before, or of `cell`, or the first. */
function stopOf(container, content, cell) {
  const before = container.querySelector('[data-rove][tabindex="0"]')?.dataset.cell;
  const of = (index) => index !== undefined && content.querySelector(`[data-rove][data-cell="${index}"]`);
  return of(before) || of(cell) || content.querySelector("[data-rove]");
}

/** Handles the keys of a container. `move` returns the element that a key goes to from another, if there is one. */
function rove(container, move) {
  container.addEventListener("focusin", (event) => {
    if (event.target.matches("[data-rove]")) stopAt(container, event.target);
  });
  container.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !event.target.matches("[data-rove]")) return;
    const next = move(event.key, event.target);
    if (next === undefined) return;
    event.preventDefault();
    next?.focus();
    next?.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
}

/** The nearest element in a direction, of those beside or below each other. */
function inDirection(here, others, [dx, dy]) {
  const [x, y] = centre(here);
  let best = null;
  for (const other of others) {
    const [left, top] = centre(other);
    const [along, aside] = [(left - x) * dx + (top - y) * dy, Math.abs((left - x) * dy) + Math.abs((top - y) * dx)];
    const far = along + 2 * aside;
    if (along > 1 && aside <= along && (!best || far < best.far)) best = { other, far };
  }
  return best?.other ?? null;
}

function centre(element) {
  const box = element.getBoundingClientRect();
  return [box.left + box.width / 2, box.top + box.height / 2];
}

const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
