// What makes the pages handier; everything but "open a case by its id" works without it.
"use strict";

for (const button of document.querySelectorAll("[data-confirm]")) {
  button.addEventListener("click", (event) => {
    if (!window.confirm(button.dataset.confirm)) event.preventDefault();
  });
}

for (const form of document.querySelectorAll("form[data-goto]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = form.elements[0].value.trim();
    if (name) window.location.assign(form.dataset.goto + encodeURIComponent(name));
  });
}

for (const area of document.querySelectorAll("textarea[data-json]")) {
  area.addEventListener("input", () => {
    let wrong = "";
    try {
      if (area.value.trim()) {
        const value = JSON.parse(area.value);
        if (value === null || typeof value !== "object" || Array.isArray(value)) wrong = "This must be a JSON object.";
      }
    } catch (error) {
      wrong = `This is no JSON: ${error.message}`;
    }
    area.setCustomValidity(wrong);
  });
}

// A picture that is wider than the window begins where something is to be done.
const look = (picture) => {
  const here = picture.querySelector('.task:not([class="task"])') || picture.querySelector("[data-tokens]");
  if (!here) return;
  const [at, frame] = [here.getBoundingClientRect(), picture.getBoundingClientRect()];
  picture.scrollLeft += at.left + at.width / 2 - frame.left - frame.width / 2;
};
document.querySelectorAll(".picture").forEach(look);

for (const player of document.querySelectorAll("[data-player]")) {
  const steps = [...player.querySelectorAll(".step")];
  const button = (name) => player.querySelector(`[data-step="${name}"]`);
  let at = 0;
  let timer = 0;
  const show = (wanted) => {
    at = Math.max(0, Math.min(steps.length - 1, wanted));
    steps.forEach((step, index) => { step.hidden = index !== at; });
    steps[at].querySelectorAll(".picture").forEach(look);
    button("first").disabled = button("back").disabled = at === 0;
    button("last").disabled = button("on").disabled = at === steps.length - 1;
  };
  const stop = () => {
    window.clearInterval(timer);
    timer = 0;
    button("play").textContent = "Play";
  };
  const play = () => {
    if (at === steps.length - 1) show(0);
    button("play").textContent = "Pause";
    timer = window.setInterval(() => {
      show(at + 1);
      if (at === steps.length - 1) stop();
    }, 900);
  };
  const moves = { first: () => show(0), back: () => show(at - 1), on: () => show(at + 1), last: () => show(steps.length) };
  for (const [name, move] of Object.entries(moves)) button(name).addEventListener("click", () => { stop(); move(); });
  button("play").addEventListener("click", () => (timer ? stop() : play()));
  player.querySelector(".controls").hidden = false;
  show(0);
}
