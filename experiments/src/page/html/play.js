// The slider over the noise levels, and playing it.

function setLevel(level) {
  state.level = clamp(Math.round(level), 0, levels.length - 1);
  showLevel();
  paintNow();
  repaint();
  keep();
}

function showLevel() {
  const slider = byId("level");
  const sigma = levels[state.level];
  const cell = data.cells[state.a];
  const frame = frameAt(cell, sigma);
  const text = frame ? `σ ${short(sigma)}, call ${frame.call + 1} of ${cell.noise.length}` : "the picture";
  slider.value = String(state.level);
  slider.setAttribute(
    "aria-valuetext",
    frame ? `noise level ${short(sigma)}, call ${frame.call + 1} of ${cell.noise.length}` : text,
  );
  byId("level-text").textContent = text;
}

function setView(view) {
  state.view = view;
  document.querySelector(`input[name="view"][value="${view}"]`).checked = true;
  repaint();
  keep();
}

let playing = null;

const isPlaying = () => playing !== null;

/** Goes on from where the slider is; from the end, begins again. */
function play() {
  if (state.level === levels.length - 1) setLevel(0);
  playing = setInterval(
    () => {
      setLevel(state.level + 1);
      if (state.level === levels.length - 1) pause();
    },
    Math.max(80, 3000 / levels.length),
  );
  showPlay();
}

function pause() {
  clearInterval(playing);
  playing = null;
  showPlay();
}

function playOrPause() {
  if (isPlaying()) pause();
  else play();
}

function showPlay() {
  byId("play").textContent = isPlaying() ? "Pause" : "Play";
}
