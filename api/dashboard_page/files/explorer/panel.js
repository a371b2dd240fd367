// One chart with what is laid over it: the pointer's line and card, the same by keys, zoom by dragging, the strip of marks.
//
// Belongs here: pointing and looking. Does not belong here: traces (`figure`), texts (`words`).

import { h, setText } from "../dom.js";
import { markSign } from "./signs.js";
import { nearest } from "./series.js";
import { MARKS, markOf, sentenceOf } from "./words.js";

const MOST_ROWS = 12;

/**
 * A panel. `tell(place)` says what is known of a bucket (`toldOf`); `onZoom(start, end)` is called when somebody drags,
 * `onOut()` when somebody clicks twice, `onPoint(place)` when another bucket is pointed at, -1 for none.
 */
export class Panel {
  constructor({ chart, label, onZoom, onOut, onPoint, tell }) {
    Object.assign(this, { tell, onZoom, onOut, onPoint, buckets: [], range: [0, 1], place: -1, label });
    this.plot = chart({ label, mostPoints: Infinity });
    this.line = h("div", { class: "ex-line", hidden: true });
    this.card = h("div", { class: "ex-card", hidden: true });
    this.slider = h("div", {
      class: "ex-slider", role: "slider", tabindex: "0", "aria-label": `${label}: buckets`, "aria-valuemin": "0", "aria-valuemax": "0",
      "aria-valuenow": "0", onkeydown: (event) => this.press(event), onfocus: () => this.choose(this.place < 0 ? this.buckets.length - 1 : this.place, true),
      onblur: () => this.choose(-1),
    });
    this.strip = h("div", { class: "ex-strip", role: "list", "aria-label": `${label}: marked buckets` });
    this.stage = h("div", { class: "ex-stage", onpointermove: (event) => this.move(event), onpointerleave: () => this.leave() },
      this.plot.element, this.line, this.card, this.slider);
    this.element = h("div", { class: "ex-panel" }, this.stage, this.strip);
    this.isListening = false;
    this.observer = new ResizeObserver(() => this.drawn && this.size !== this.drawnSize && this.draw(...this.drawn));
    this.observer.observe(this.stage);
  }

  /** Draw traces over buckets in a range of ms. */
  async draw(traces, layout, buckets, range, summary) {
    Object.assign(this, { buckets, range, drawn: [traces, layout, buckets, range, summary], drawnSize: this.size });
    this.plot.describe(summary);
    await this.plot.draw(traces, layout);
    this.listen();
    this.mark();
    this.slider.setAttribute("aria-valuemax", String(Math.max(0, buckets.length - 1)));
    if (this.place >= buckets.length) this.choose(-1);
    else if (this.place >= 0) this.choose(this.place, document.activeElement === this.slider);
  }

  get size() {
    return `${this.stage.clientWidth} ${this.stage.clientHeight}`;
  }

  listen() {
    const canvas = this.plot.element;
    if (this.isListening || !canvas.on) return;
    this.isListening = true;
    canvas.on("plotly_doubleclick", () => this.onOut());
    canvas.on("plotly_relayout", (changes) => {
      const [start, end] = [changes["xaxis.range[0]"], changes["xaxis.range[1]"]].map(momentOf);
      // A double click gives back the range that there is.
      const isOther = Math.abs(start - this.range[0]) > 1 || Math.abs(end - this.range[1]) > 1;
      if (Number.isFinite(start) && Number.isFinite(end) && isOther) this.onZoom(start, end);
    });
  }

  /** Where the axes are, in pixels of the stage. */
  area() {
    const drag = this.plot.element.querySelector(".nsewdrag")?.getBoundingClientRect();
    const stage = this.stage.getBoundingClientRect();
    if (!drag) return null;
    return { left: drag.left - stage.left, top: drag.top - stage.top, width: drag.width, height: drag.height, stage };
  }

  xOf(at, area) {
    return area.left + ((at - this.range[0]) / (this.range[1] - this.range[0])) * area.width;
  }

  move(event) {
    const area = this.area();
    if (!area || event.buttons) return this.choose(-1);
    const x = event.clientX - area.stage.left - area.left;
    if (x < -6 || x > area.width + 6) return this.choose(-1);
    const at = this.range[0] + (x / area.width) * (this.range[1] - this.range[0]);
    this.choose(nearest(this.buckets, at));
  }

  leave() {
    if (document.activeElement !== this.slider) this.choose(-1);
  }

  press(event) {
    const last = this.buckets.length - 1;
    const steps = { ArrowLeft: this.place - 1, ArrowRight: this.place + 1, PageUp: this.place + 10, PageDown: this.place - 10, Home: 0, End: last };
    if (event.key === "Escape") return this.choose(-1);
    if (!(event.key in steps)) return undefined;
    event.preventDefault();
    return this.choose(Math.max(0, Math.min(last, steps[event.key])), true);
  }

  /** Point at a bucket, -1 for none; others may point along with `show`. */
  choose(place, isSaid = false) {
    this.show(place);
    this.onPoint(place);
    if (place >= 0 && isSaid) this.say(place);
  }

  say(place) {
    this.slider.setAttribute("aria-valuenow", String(place));
    this.slider.setAttribute("aria-valuetext", sentenceOf(this.tell(place)));
  }

  /** Show line and card at a bucket; without `isLead` the line alone. */
  show(place, isLead = true) {
    this.place = place;
    const area = place >= 0 && this.buckets[place] ? this.area() : null;
    this.line.hidden = this.card.hidden = true;
    if (!area) return;
    const bucket = this.buckets[place];
    const x = this.xOf(bucket.at + (bucket.middle ?? 0), area);
    if (x < area.left - 1 || x > area.left + area.width + 1) return;
    Object.assign(this.line.style, { left: `${x}px`, top: `${area.top}px`, height: `${area.height}px` });
    this.line.hidden = false;
    if (!isLead) return;
    this.card.replaceChildren(...cardOf(this.tell(place), markOf(bucket)));
    this.card.hidden = false;
    const width = this.card.offsetWidth;
    const right = x + 14;
    const left = right + width <= area.stage.width ? right : Math.max(0, Math.min(x - 14 - width, area.stage.width - width));
    Object.assign(this.card.style, { left: `${left}px`, top: `${area.top + 6}px` });
  }

  /** Tell anew what is told, because more is known. */
  refresh() {
    if (!this.card.hidden) this.show(this.place);
  }

  /** The strip below: a sign for every bucket of which something is to be known; runs of them as one bar where it is narrow. */
  mark() {
    const area = this.area();
    this.strip.replaceChildren();
    if (!area) return;
    const step = this.buckets.length > 1 ? this.xOf(this.buckets[1].at, area) - this.xOf(this.buckets[0].at, area) : area.width;
    for (const run of runsOf(this.buckets, step < 13)) {
      const from = this.xOf(run.first.at + (run.first.middle ?? 0), area);
      const to = this.xOf(run.last.at + (run.last.middle ?? 0), area);
      const text = `${run.count > 1 ? `${run.count} buckets` : "1 bucket"}: ${MARKS[run.mark]}`;
      const sign = h("span", { class: "ex-mark", role: "listitem", title: text, "aria-label": text, "data-mark": run.mark,
        "data-at": new Date(run.first.at).toISOString(), "data-count": run.count }, markSign(run.mark));
      Object.assign(sign.style, { left: `${from}px`, width: `${Math.max(14, to - from + 14)}px` });
      this.strip.append(sign);
    }
    this.strip.hidden = !this.strip.children.length;
  }

  dispose() {
    this.observer.disconnect();
    this.plot.dispose();
  }
}

/** A moment as Plotly tells it: `2026-11-28 12:00:00.5`, in UTC. */
function momentOf(text) {
  return Date.parse(`${String(text).replace(" ", "T").replace(/Z$/, "")}Z`);
}

/** Neighbours with the same mark, together where there is little room. */
function runsOf(buckets, isNarrow) {
  const runs = [];
  let before = null;
  for (const bucket of buckets) {
    const mark = markOf(bucket);
    const run = runs.at(-1);
    if (mark && isNarrow && run && before === mark) Object.assign(run, { last: bucket, count: run.count + 1 });
    else if (mark) runs.push({ mark, first: bucket, last: bucket, count: 1 });
    before = mark;
  }
  return runs;
}

function cardOf(told, mark) {
  const rows = told.rows.slice(0, MOST_ROWS).map(({ series, label, value, details }) => {
    const swatch = h("span", { class: "ex-swatch" });
    swatch.style.background = series.colour;
    return h("div", { class: "ex-row" }, swatch, h("span", { class: "ex-name" }, label), h("strong", { class: "number" }, value),
      details.length > 0 && h("span", { class: "ex-details" }, details.join(" · ")));
  });
  const more = told.rows.length - MOST_ROWS;
  const head = h("p", { class: "ex-state" }, mark && markSign(mark));
  const text = h("span", {});
  setText(text, told.state);
  head.append(text);
  return [h("p", { class: "ex-when" }, told.title), head, ...rows, more > 0 && h("p", { class: "quiet" }, `and ${more} more`),
    ...told.notes.map((note) => h("p", { class: "ex-note" }, note))].filter(Boolean);
}
