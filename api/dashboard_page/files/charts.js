// Charts: one thin layer over Plotly, with the colours of the page, updated in place, with a bounded number of points.

import { h } from "./dom.js";
import { colour, onChange } from "./theme.js";

const MOST_POINTS = 2000;
const SERIES = 9;
let loading = null;

/** Plotly's script, fetched when there is the first chart. */
function plotly() {
  loading ??= new Promise((resolve, reject) => {
    document.head.append(h("script", {
      src: document.documentElement.dataset.plotly,
      onload: () => resolve(globalThis.Plotly),
      onerror: () => {
        loading = null;
        reject(new Error("The charts' script could not be loaded; reload the page."));
      },
    }));
  });
  return loading;
}

/** The colour of a series by its place; the ninth and all after it share a grey. */
export const seriesColour = (place) => colour(`--series-${Math.min(place + 1, SERIES)}`);

/**
 * A chart of the newest `mostPoints` of each trace. `draw(traces, layout)` takes what Plotly takes, laid over the style of
 * the page; call it again to change it.
 * `element` stands where it is to be seen; `label` is its name for people who listen, `describe` sets what it shows.
 * It is `height` pixels high, more on a screen that is read from afar, and `share` percent of a high window.
 */
export function chart({ label, height = 220, share = 0, mostPoints = MOST_POINTS }) {
  const canvas = h("div", { class: "plot", role: "img", "aria-label": label });
  canvas.style.height = heightOf(height, share);
  plotly().catch(() => {}); // begins to load; who draws is told if it fails
  let last = null;
  let isGone = false;
  let size = "";
  let pointer = null;
  canvas.addEventListener("pointermove", ({ clientX, clientY }) => { pointer = { clientX, clientY }; });
  canvas.addEventListener("pointerleave", () => { pointer = null; });

  async function redraw() {
    if (last === null || isGone) return;
    const Plotly = await plotly();
    if (isGone) return;
    const [traces, layout] = last;
    await Plotly.react(canvas, traces().map((trace) => bounded(trace, mostPoints)), styled(layout()), CONFIG);
    // What was pointed at is pointed at still: without this, what hovers would vanish with every update.
    if (pointer) document.elementFromPoint(pointer.clientX, pointer.clientY)?.dispatchEvent(new MouseEvent("mousemove", { ...pointer, bubbles: true }));
  }

  const observer = new ResizeObserver(([entry]) => {
    const now = `${Math.round(entry.contentRect.width)} ${Math.round(entry.contentRect.height)}`;
    if (now === size) return;
    size = now;
    if (canvas.data && globalThis.Plotly) globalThis.Plotly.Plots.resize(canvas);
  });
  observer.observe(canvas);
  const forget = onChange(redraw);
  return {
    element: canvas,
    /** Traces and layout, or functions that make them: those are called again when the colours change. */
    draw(traces, layout = {}) {
      last = [typeof traces === "function" ? traces : () => traces, typeof layout === "function" ? layout : () => layout];
      return redraw();
    },
    describe(text) {
      canvas.setAttribute("aria-label", `${label}. ${text}`);
    },
    dispose() {
      isGone = true;
      observer.disconnect();
      forget();
      if (canvas.data && globalThis.Plotly) globalThis.Plotly.purge(canvas);
    },
  };
}

/** The height of a chart as a style: see `chart`. */
export const heightOf = (height, share) => `max(${height}px * var(--chart-scale), ${share}vh)`;

const CONFIG = { displayModeBar: false, responsive: false, scrollZoom: false, doubleClick: "reset", showTips: false };

function bounded(trace, most) {
  const surplus = (trace.x?.length ?? 0) - most;
  if (surplus <= 0) return trace;
  const cut = { ...trace };
  for (const [name, value] of Object.entries(trace)) {
    if (Array.isArray(value) && value.length === trace.x.length) cut[name] = value.slice(surplus);
  }
  return cut;
}

function styled(layout) {
  const ink = colour("--ink-2");
  const scale = Number(colour("--chart-scale"));
  const axis = { gridcolor: colour("--grid"), linecolor: colour("--line"), zerolinecolor: colour("--line"), tickcolor: colour("--line"), automargin: true, fixedrange: false };
  return {
    autosize: true,
    margin: { l: 44, r: 10 * scale, t: 8, b: 28 },
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { family: "inherit", size: 11 * scale, color: ink },
    hovermode: "x unified",
    hoverlabel: { bgcolor: colour("--surface-2"), bordercolor: colour("--line"), font: { color: colour("--ink"), size: 12 * scale } },
    showlegend: false,
    legend: { orientation: "h", y: -0.16, x: 0, itemwidth: 30 },
    uirevision: "kept",
    ...layout,
    xaxis: { type: "date", ...axis, showgrid: false, ...layout.xaxis },
    yaxis: { ...axis, rangemode: "tozero", nticks: 5, ...layout.yaxis },
    ...(layout.yaxis2 ? { yaxis2: { ...axis, ...layout.yaxis2 } } : {}),
  };
}
