"use strict";
// The theme: the reader's system decides until the button does.
const root = document.documentElement;
document.getElementById("theme").addEventListener("click", () => {
  const now = root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  root.dataset.theme = now === "dark" ? "light" : "dark";
});

// Charts: a cursor at the nearest point of every course, and its numbers.
for (const panel of document.querySelectorAll(".panel")) {
  const svg = panel.querySelector("svg");
  const cursor = panel.querySelector(".cursor");
  const readout = panel.querySelector(".readout");
  const { series } = JSON.parse(panel.querySelector("script").textContent);
  const nearest = (places, at) => {
    let low = 0, high = places.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (places[middle] < at) low = middle + 1; else high = middle;
    }
    return low > 0 && at - places[low - 1] < places[low] - at ? low - 1 : low;
  };
  const show = (event) => {
    const box = svg.getBoundingClientRect();
    const at = (event.clientX - box.left) / box.width * svg.viewBox.baseVal.width;
    readout.replaceChildren();
    let place = null;
    for (const one of series) {
      const index = nearest(one.at, at);
      place ??= one.at[index];
      if (!readout.childElementCount) {
        readout.append(Object.assign(document.createElement("div"), { textContent: `iteration ${one.x[index].toLocaleString("en")}` }));
      }
      const line = document.createElement("div");
      const dot = document.createElement("span");
      dot.className = "dot";
      dot.style.setProperty("--run", `var(--run${one.run % 6})`);
      line.append(dot, `${one.v[index]} ${one.name}`.trim());
      readout.append(line);
    }
    cursor.setAttribute("x1", place);
    cursor.setAttribute("x2", place);
    cursor.removeAttribute("visibility");
    // Out of the way of what is pointed at.
    readout.style.left = at > svg.viewBox.baseVal.width / 2 ? "3.6rem" : "auto";
    readout.style.right = at > svg.viewBox.baseVal.width / 2 ? "auto" : ".4rem";
  };
  svg.addEventListener("pointermove", show);
  svg.addEventListener("pointerdown", show);
  svg.addEventListener("pointerleave", () => {
    readout.replaceChildren();
    cursor.setAttribute("visibility", "hidden");
  });
}

// Confusion: what the cell under the pointer says.
for (const figure of document.querySelectorAll(".confusion")) {
  const says = figure.querySelector(".says");
  const names = JSON.parse(figure.querySelector("script").textContent);
  const tell = (event) => {
    const cell = event.target.closest("td");
    if (!cell) return;
    figure.querySelector("td.on")?.classList.remove("on");
    cell.classList.add("on");
    const [truth, predicted] = [names[cell.parentElement.rowIndex - 1], names[cell.cellIndex - 1]];
    says.textContent = `${cell.dataset.percent} % of ${truth} is predicted as ${predicted} (${Number(cell.dataset.pixels).toLocaleString("en")} pixels)`;
  };
  figure.addEventListener("pointerover", tell);
  figure.addEventListener("pointerdown", tell);
}

// Gallery: two layers and the line between them.
const chosen = { left: document.getElementById("left"), right: document.getElementById("right") };
const figures = document.querySelectorAll(".slider");
const choose = () => {
  for (const figure of figures) {
    for (const side of ["left", "right"]) {
      const key = chosen[side].value;
      for (const image of figure.querySelectorAll("img")) image.classList.toggle(side, image.dataset.key === key);
      figure.querySelector(`span.${side[0]}`).textContent = chosen[side].selectedOptions[0].textContent;
    }
  }
};
for (const figure of figures) {
  const range = figure.querySelector("input");
  const stage = figure.querySelector(".stage");
  const cut = () => stage.style.setProperty("--cut", `${range.value}%`);
  range.addEventListener("input", cut);
  const drag = (event) => {
    if (event.type === "pointermove" && event.buttons !== 1) return;
    const box = stage.getBoundingClientRect();
    range.value = 100 * (event.clientX - box.left) / box.width;
    cut();
  };
  stage.addEventListener("pointerdown", drag);
  stage.addEventListener("pointermove", drag);
  stage.addEventListener("dragstart", (event) => event.preventDefault());
}
if (figures.length) {
  chosen.left.addEventListener("change", choose);
  chosen.right.addEventListener("change", choose);
  choose();
}
