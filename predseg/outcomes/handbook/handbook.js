// Shows in the picture what a box rests on and what rests on it, and finds segments by their words.
"use strict";

const map = document.getElementById("map");
const arrows = [...map.querySelectorAll(".arrow")];
const boxes = [...map.querySelectorAll(".box")];

function reached(node, from, to) {
  const found = new Set();
  const ahead = [node];
  while (ahead.length) {
    const here = ahead.pop();
    for (const arrow of arrows) {
      if (arrow.dataset[from] !== here || found.has(arrow)) continue;
      found.add(arrow);
      ahead.push(arrow.dataset[to]);
    }
  }
  return found;
}

function point(node) {
  const on = new Set([...reached(node, "end", "start"), ...reached(node, "start", "end")]);
  const names = new Set([node, ...[...on].flatMap((arrow) => [arrow.dataset.start, arrow.dataset.end])]);
  for (const arrow of arrows) arrow.classList.toggle("on", on.has(arrow));
  for (const box of boxes) box.classList.toggle("on", names.has(box.dataset.node));
  map.classList.add("pointed");
}

for (const box of boxes) {
  for (const kind of ["pointerenter", "focus"]) box.addEventListener(kind, () => point(box.dataset.node));
  for (const kind of ["pointerleave", "blur"]) box.addEventListener(kind, () => map.classList.remove("pointed"));
}

const find = document.getElementById("find");
if (find) {
  const entries = [...document.querySelectorAll("#segments .entry")];
  find.addEventListener("input", () => {
    const words = find.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const entry of entries) entry.hidden = !words.every((word) => entry.textContent.toLowerCase().includes(word));
    document.getElementById("found").textContent = words.length ? `${entries.filter((entry) => !entry.hidden).length} found` : "";
  });
}
