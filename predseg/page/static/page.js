// What the page does beyond links and forms: it follows the changes of a live segment.
"use strict";

const SHOWN = 50;

function live(list) {
  const state = document.getElementById("live-state");
  const counted = { entered: 0, left: 0 };
  let source = null;
  let last = "";

  function add(change) {
    last = change.lastEventId;
    counted[change.type] += 1;
    const item = document.createElement("li");
    item.className = change.type;
    item.textContent = `${change.data.slice(0, 19).replace("T", " ")} ${change.type}${change.data.includes("(") ? " (taken back)" : ""}`;
    list.prepend(item);
    while (list.children.length > SHOWN) list.lastChild.remove();
    state.textContent = `Since you opened this page: ${counted.entered} entered, ${counted.left} left. They are shown without names.`;
  }

  function follow() {
    if (source || document.hidden) return;
    source = new EventSource(list.dataset.changes + (last ? `?after=${last}` : ""));
    for (const kind of ["entered", "left"]) source.addEventListener(kind, add);
  }

  function rest() {
    if (source) source.close();
    source = null;
  }

  // a page that nobody looks at holds no connection
  document.addEventListener("visibilitychange", () => (document.hidden ? rest() : follow()));
  window.addEventListener("pagehide", rest);
  follow();
}

const list = document.getElementById("live");
if (list) live(list);
