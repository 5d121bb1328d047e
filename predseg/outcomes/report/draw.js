"use strict";
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const axis = { labelColor: "currentColor", titleColor: "currentColor", tickColor: "currentColor", tickOpacity: 0.3, gridColor: "currentColor",
    gridOpacity: 0.12, domain: false, titleFontWeight: "normal", titleOpacity: 0.75, labelOpacity: 0.85, labelOverlap: true };
  const config = {
    aria: false, background: null, font: "inherit", view: { stroke: null }, axis,
    legend: { labelColor: "currentColor", titleColor: "currentColor", orient: "top", title: null, symbolType: "circle", columns: 0 },
    text: { color: "currentColor" }, range: { category: ["#2f7ebc", "#e07b28", "#2a9d6f", "#c9485b", "#8a63b3", "#a07850", "#c06ba8", "#7d8590"] },
  };

  /* Give every view of a chart the width that there is; labels at the left get at most two fifths of it. */
  function fitted(chart, width) {
    const spec = structuredClone(chart);
    const left = Math.min((spec.usermeta && spec.usermeta.left) || 0, Math.round(width * 0.42));
    const views = spec.vconcat || [spec];
    if (spec.vconcat && width < 520) for (const view of views) if (view.layer) view.layer = view.layer.filter((part) => part.mark.type !== "text");
    if (left) {
      spec.config = { axisLeft: { minExtent: left, maxExtent: left, labelLimit: left - 8 } };
      for (const view of views) view.width = Math.max(width - left - 24, 60);
      spec.autosize = { type: "pad" };
    } else {
      for (const view of views) view.width = width;
      spec.autosize = { type: "fit-x", contains: "padding" };
    }
    spec.padding = { left: 2, right: 10, top: 6, bottom: 2 };
    return spec;
  }

  async function draw(width) {
    for (const [key, chart] of Object.entries(charts)) {
      const box = document.getElementById("chart-" + key);
      await window.vegaEmbed(box, fitted(chart, width || box.clientWidth), { actions: false, renderer: "svg", config, tooltip: { theme: "custom" } });
    }
    document.documentElement.dataset.drawn = "yes";
  }

  let last = 0, waiting = 0;
  function resized() {
    clearTimeout(waiting);
    waiting = setTimeout(() => { if (window.innerWidth !== last) { last = window.innerWidth; draw(); } }, 150);
  }
  window.addEventListener("resize", resized);
  const closed = new Set();
  window.addEventListener("beforeprint", () => {
    for (const d of document.querySelectorAll("details:not([open])")) { closed.add(d); d.open = true; }
  });
  window.addEventListener("afterprint", () => { for (const d of closed) d.open = false; closed.clear(); });
  last = window.innerWidth;
  draw();
})();
