// Uses a report as a reader does, and leaves what came of it in an element that the test reads.
"use strict";

const seen = [];

function holds(name, condition, found) {
  seen.push({ name, holds: Boolean(condition), found: String(found ?? "") });
}

/** Waits until every picture that was asked for is there and painted. */
async function settle() {
  const pause = () => new Promise((done) => setTimeout(done, 20));
  await pause();
  // The browser's clock runs as fast as it can, and pictures are opened beside it: so many rounds are a second or more.
  for (let round = 0; round < 20000 && ![...sheets.values()].every((image) => image.complete); round++) await pause();
  await pause();
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
  await settle();
  const end = pixels(first());
  set("level", 0);
  await settle();
  const noise = pixels(first());
  holds("the slider moves the pictures", noise !== end);
  holds("and says where it is", byId("level-text").textContent.includes("call 1 of"), byId("level-text").textContent);
  holds("and the line in the curves", document.querySelector("#chart .now"));
  pick("view", "sample");
  await settle();
  holds("the sample is not the clean estimate", pixels(first()) !== noise);
  const middle = Math.floor(levels.length / 2);
  const sigma = levels[middle];
  set("level", middle);
  const frames = data.cells.map((cell) => frameAt(cell, sigma).sigma);
  holds("every run stands at about the same noise", frames.every((found) => Math.abs(Math.log(found / sigma)) < 1), frames);
  key(".");
  holds("a key moves it too", byId("level").value === String(middle + 1), byId("level").value);
  pick("view", "clean");
  set("level", levels.length - 1);
}

async function wipe() {
  const pair = byId("pair");
  const alone = async (index) => {
    choose("a", index);
    choose("b", index);
    set("wipe", 0);
    await settle();
    return pixels(pair, 8, 80);
  };
  const [a, b] = [await alone(0), await alone(data.cells.length - 1)];
  holds("the pictures that are held against each other differ", a !== b);
  choose("a", 0);
  choose("b", data.cells.length - 1);
  set("wipe", 1000);
  await settle();
  holds("wiped to the right there is A", pixels(pair, 8, 80) === a);
  set("wipe", 0);
  await settle();
  holds("wiped to the left there is B", pixels(pair, 8, 80) === b);
  const box = pair.getBoundingClientRect();
  pair.dispatchEvent(new PointerEvent("pointerdown", { clientX: box.left + 0.75 * box.width, buttons: 1, bubbles: true }));
  holds("the pointer wipes", Math.abs(state.wipe - 0.75) < 0.01, state.wipe);
  key("d");
  await settle();
  holds("the difference is said", /^\|A − B\|: [0-9.]+ of 255/.test(byId("distance").textContent), byId("distance").textContent);
  choose("b", 0);
  await settle();
  holds("a picture does not differ from itself", byId("distance").textContent.startsWith("|A − B|: 0 of 255"), byId("distance").textContent);
  key("w");
}

async function words() {
  await settle();
  const plain = pixels(byId("pair"));
  const chip = document.querySelector("#words button");
  holds("the words are there", chip);
  chip.click();
  await settle();
  holds("attention lies over the picture", pixels(byId("pair")) !== plain);
  document.querySelector("#words button").click();
  await settle();
  holds("and can be taken away", pixels(byId("pair")) === plain);
}

async function grid() {
  const heads = () => [...document.querySelectorAll("#grid thead th")].slice(1).map((head) => head.textContent).join();
  const [before, columns] = [heads(), data.axes[state.across].values.join()];
  holds("the columns are named", before === columns, before);
  const down = data.axes[state.down].values.join();
  set("across", state.down);
  holds("rows and columns change places", heads() === down, heads());
  const cells = [...document.querySelectorAll(".cell")];
  cells[1].click();
  await settle();
  holds("a click takes A", state.a === Number(cells[1].dataset.cell) && cells[1].matches(".is-a"), state.a);
  cells[2].dispatchEvent(new MouseEvent("click", { bubbles: true, shiftKey: true }));
  await settle();
  holds("one with Shift takes B", state.b === Number(cells[2].dataset.cell) && cells[2].matches(".is-b"), state.b);
  cells[0].focus();
  key("ArrowRight", cells[0]);
  holds("arrows go from picture to picture", document.activeElement === cells[1], document.activeElement.title);
  key("b", document.activeElement);
  holds("b takes it", state.b === Number(cells[1].dataset.cell));
  set("down", -1);
  holds("one field alone flows", document.querySelectorAll("#grid .flow figure").length === data.axes[state.across].values.length);
  const sticky = (selector) => getComputedStyle(document.querySelector(selector)).position;
  set("down", 1 - state.across);
  holds("labels stay in sight", sticky("#grid thead th") === "sticky" && sticky("#grid tbody th") === "sticky");
}

async function tables() {
  const column = data.axes.length + data.numbers.indexOf("saturation");
  const button = () => document.querySelectorAll("#table th button")[column];
  const values = () => [...document.querySelectorAll("#table tbody tr")].map((line) => Number(line.children[column].textContent));
  button().click();
  const up = values();
  holds("numbers are sorted", up.every((value, index) => index === 0 || up[index - 1] <= value), up);
  button().click();
  holds("and turned round", values().join() === up.reverse().join(), values());
  const files = {};
  const made = URL.createObjectURL;
  URL.createObjectURL = (blob) => {
    files.last = blob;
    return "#";
  };
  for (const [id, start] of [["numbers-csv", "guidance,seed"], ["curves-csv", "picture,call,sigma"]]) {
    byId(id).click();
    const text = await files.last.text();
    holds(`${id} gives a table`, text.startsWith(start) && text.trim().split("\n").length > data.cells.length, text.slice(0, 60));
  }
  document.querySelector("#figures button").click();
  holds("a figure gives its numbers", (await files.last.text()) === data.figures[0].csv);
  URL.createObjectURL = made;
}

async function page() {
  const text = document.body.innerHTML;
  holds("a prompt is text", !document.querySelector("b, i, #grid img, [onerror]") && window.harmed === undefined);
  holds("and shown as it was written", byId("title").textContent.includes("<b>bold</b>"), byId("title").textContent);
  const ground = () => getComputedStyle(document.body).backgroundColor;
  const before = ground();
  key("t");
  holds("light and dark", ground() !== before, ground());
  key("?");
  holds("the keys are listed", byId("help").open);
  byId("help").close();
  holds("the figures are there", [...document.querySelectorAll("#figures img")].every((image) => image.naturalWidth > 0) && data.figures.length > 0);
  holds("where it comes from", byId("sources").textContent.includes("blake3") && text.length > 0);
  choose("a", 1);
  holds("the address keeps what is looked at", /#a=1&b=\d+&level=\d+/.test(location.hash), location.hash);
}

addEventListener("load", async () => {
  try {
    for (const part of [slider, wipe, words, grid, tables, page]) await part();
  } catch (error) {
    holds("the page is used to the end", false, error.stack);
  }
  document.body.append(make("pre", { id: "seen" }, JSON.stringify(seen)));
});
