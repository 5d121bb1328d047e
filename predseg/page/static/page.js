// What the page does beyond links and forms: it follows the changes of a live segment, and counts while a rule is edited.
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

const PAUSE = 400;

function build(form) {
  const text = form.querySelector("textarea");
  const state = document.getElementById("state");
  const result = document.getElementById("result");
  let timer = 0;
  let counting = false;
  let again = false;

  function later(wait) {
    clearTimeout(timer);
    timer = setTimeout(count, wait);
  }

  // one question at a time: what is written meanwhile is asked next
  async function count() {
    if (counting) {
      again = true;
      return;
    }
    counting = true;
    state.textContent = "Counting…";
    try {
      const body = new URLSearchParams(new FormData(form));
      body.set("do", "check");
      await show(await fetch(form.action, { method: "POST", body, headers: { Accept: "text/html" } }));
    } catch {
      state.textContent = "The server does not answer.";
    }
    counting = false;
    if (again) later(0);
    again = false;
  }

  async function show(answer) {
    const found = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("result");
    if (found) {
      result.replaceChildren(...found.childNodes);
      state.textContent = found.dataset.says;
      text.toggleAttribute("aria-invalid", Boolean(result.querySelector("pre.refused")));
    } else if (answer.headers.has("Retry-After")) {
      state.textContent = "The server counts for others, yours is next…";
      later(1000 * Number(answer.headers.get("Retry-After")));
    } else {
      state.textContent = answer.status === 401 ? "Sign in again in another tab, then go on here." : "This cannot be counted.";
    }
  }

  form.addEventListener("input", () => later(PAUSE));
}

const form = document.getElementById("build");
if (form) build(form);

const list = document.getElementById("live");
if (list) live(list);
