// An answer, drawn: a panel for each unit, the legend, the signs, the table.
//
// Belongs here: putting these together, and keeping colours while answers change. Does not belong here: each of them.

import { widthOf } from "../buckets.js";
import { heightOf, seriesColour } from "../charts.js";
import { h, swap } from "../dom.js";
import { colour, onChange } from "../theme.js";
import { isStacked, layoutOf, tracesOf } from "./figure.js";
import { unitOf } from "./catalog.js";
import { Panel } from "./panel.js";
import { bucketsOf, isRest } from "./series.js";
import { markSign } from "./signs.js";
import { columnsOf, tableOf } from "./table.js";
import { COMPARED, MARKS, markOf, summaryOf, toldOf } from "./words.js";

const HEIGHTS = [[380, 46], [250, 34], [200, 26]]; // of one panel, of two, of more: pixels at least, and percent of the window
const MOST_SERIES = 60;
const COLOURED = 8;
const UNITS = { "": "count", quote: "quote currency", base: "base currency", percent: "percent", ms: "milliseconds", "/s": "per second" };

export class Drawing {
  /** `chart` makes charts; `acts` are told what somebody does: onZoom, onOut, onSort, onHide. */
  constructor(chart, acts) {
    Object.assign(this, { chart, acts, panels: new Map(), places: new Map(), feed: [], isWhole: false, asked: "" });
    this.charts = h("div", { class: "ex-charts" });
    this.legend = h("ul", { class: "ex-legend-list", "aria-label": "Series" });
    this.signs = h("ul", { class: "ex-signs", "aria-label": "Signs" });
    this.remark = h("p", { class: "ex-remark quiet" });
    this.table = h("div", { class: "ex-values" });
    this.forget = onChange(() => this.series && this.redraw());
    this.element = h("div", {}, this.charts, this.signs, this.legend, this.remark, this.table);
  }

  /** Width of a bucket in ms, of the newest answer. */
  get width() {
    return this.series?.length ? widthOf(this.series[0].result.interval) : null;
  }

  /** Draw the series of an answer; `{question, range, entryFor}`. */
  draw(series, what) {
    const { metrics, groupBy, filters, aggregation } = what.question;
    const asked = JSON.stringify([metrics, groupBy, filters, aggregation]);
    if (asked !== this.asked) Object.assign(this, { asked, places: new Map(), isWhole: false });
    for (const one of series) {
      const key = one.metric + one.key;
      if (!this.places.has(key)) this.places.set(key, this.places.size);
      one.place = this.places.get(key);
      // What is left of the top is grey, and takes no colour from others.
      Object.defineProperty(one, "colour", { get: () => seriesColour(isRest(one) ? COLOURED : one.place) });
    }
    series.sort((one, other) => isRest(one) - isRest(other) || one.place - other.place);
    Object.assign(this, { series, what });
    this.redraw();
  }

  /** Take lines of the feed of restatements. */
  restated(feed) {
    this.feed = feed;
    for (const panel of this.panels.values()) panel.refresh();
  }

  redraw() {
    const { series, what } = this;
    const hidden = new Set(what.question.hide);
    const shown = series.filter((one) => !hidden.has(one.label)).slice(0, MOST_SERIES);
    this.buckets = bucketsOf(series);
    if (what.question.chart === "bar") for (const bucket of this.buckets) bucket.middle = this.width / 2;
    this.drawPanels(shown);
    this.drawLegend(hidden);
    this.drawSigns();
    this.remark.textContent = series.length <= MOST_SERIES ? ""
      : `${MOST_SERIES} of ${series.length} series are drawn; the table has all. “Top” draws the highest, and the rest together.`;
    this.drawTable();
  }

  drawPanels(shown) {
    const { what } = this;
    const byUnit = new Map();
    for (const one of shown) {
      const unit = unitOf(what.entryFor(one.metric), one.result.aggregation);
      byUnit.set(unit, [...(byUnit.get(unit) ?? []), one]);
    }
    for (const [unit, panel] of this.panels) {
      if (byUnit.has(unit)) continue;
      panel.dispose();
      panel.holder.remove();
      this.panels.delete(unit);
    }
    const height = heightOf(...(HEIGHTS[Math.min(byUnit.size, HEIGHTS.length) - 1] ?? HEIGHTS[0]));
    for (const [unit, series] of byUnit) this.drawPanel(unit, series, height);
  }

  drawPanel(unit, series, height) {
    const { what, buckets } = this;
    const { chart, zone } = what.question;
    if (!this.panels.has(unit)) this.panels.set(unit, this.newPanel(unit));
    const panel = this.panels.get(unit);
    panel.plot.element.style.height = height;
    panel.caption.textContent = UNITS[unit] ?? unit;
    if (!panel.holder.parentNode) this.charts.append(panel.holder); // what moves in the document loses the focus
    const [start, end] = what.range;
    const range = chart === "bar" ? [start, Math.max(end, (buckets.at(-1)?.at ?? end) + this.width)] : [start, end];
    const layout = () => layoutOf(series, {
      chart, range, width: this.width, zone, pixels: panel.stage.clientWidth, height: panel.stage.clientHeight, scale: Number(colour("--chart-scale")),
      colours: { line: colour("--line") },
    });
    const traces = () => tracesOf(series, { chart, width: this.width });
    panel.tell = (place) => this.tell(place, series);
    panel.draw(traces, layout, buckets, range, summaryOf(series, buckets, what.entryFor));
  }

  newPanel(unit) {
    const panel = new Panel({
      chart: this.chart, label: `Chart of ${UNITS[unit] ?? unit}`, tell: () => null,
      onZoom: (start, end) => this.acts.onZoom(start, end), onOut: () => this.acts.onOut(),
      onPoint: (place) => {
        for (const other of this.panels.values()) if (other !== panel) other.show(place, false);
      },
    });
    panel.caption = h("p", { class: "ex-caption" });
    panel.holder = h("div", { class: "ex-holder" }, panel.caption, panel.element);
    return panel;
  }

  tell(place, series) {
    const bucket = this.buckets[place];
    const { question, entryFor } = this.what;
    const [{ result }] = this.series;
    const next = this.buckets[place + 1]?.at;
    const until = next && next - bucket.at < 1.5 * this.width ? next : bucket.at + this.width;
    const metrics = new Set(series.map((one) => one.metric));
    return toldOf(bucket, until, series, {
      zone: question.zone, interval: result.interval, compare: question.compare, entryFor,
      restatements: this.feed.filter((one) => metrics.has(one.metric_name) && Date.parse(one.time_bucket) === bucket.at),
    });
  }

  drawLegend(hidden) {
    const { series, what } = this;
    const focused = this.legend.contains(document.activeElement) ? document.activeElement.dataset.label : null;
    const toggle = (label) => this.acts.onHide(hidden.has(label) ? [...hidden].filter((one) => one !== label) : [...hidden, label]);
    const items = series.slice(0, MOST_SERIES).map((one) => {
      const swatch = h("span", { class: "ex-swatch" });
      swatch.style.background = one.colour;
      return h("li", {}, h("button", { type: "button", class: "ex-series", "aria-pressed": String(!hidden.has(one.label)),
        "data-label": one.label, title: "Show or hide", onclick: () => toggle(one.label) }, swatch, one.label));
    });
    this.legend.replaceChildren(...items);
    this.legend.hidden = series.length < 2;
    if (focused !== null) [...this.legend.querySelectorAll("button")].find((one) => one.dataset.label === focused)?.focus();
    if (what.question.compare) this.legend.dataset.compare = what.question.compare;
  }

  drawSigns() {
    const { chart, compare } = this.what.question;
    const present = new Set(this.buckets.map(markOf).filter(Boolean));
    const item = (sign, shape, text) => h("li", { "data-sign": sign }, shape, ` ${text}`);
    const items = Object.keys(MARKS).filter((mark) => present.has(mark)).map((mark) => item(mark, markSign(mark), MARKS[mark]));
    const [shape, text] = chart === "bar" ? ["ex-hatched", "hatched: open"] : ["ex-dashed", "dashed: open"];
    if (present.has("open")) items.unshift(item("dashed", h("span", { class: shape }), text));
    if (compare) items.push(item("compared", h("span", { class: "ex-faint" }), `faint: ${COMPARED[compare] ?? compare}`));
    if (isStacked(this.series, chart)) items.push(h("li", { "data-sign": "stacked" }, "stacked"));
    this.signs.replaceChildren(...items);
    this.signs.hidden = !items.length;
  }

  drawTable() {
    const { series, what } = this;
    const scrolled = this.table.querySelector(".ex-table")?.scrollTop ?? 0;
    const columns = columnsOf(series, { zone: what.question.zone, entryFor: what.entryFor });
    swap(this.table, tableOf(series, columns, {
      sort: what.question.sort, isWhole: this.isWhole, onSort: (sort) => this.acts.onSort(sort),
      onAll: () => { this.isWhole = true; this.drawTable(); },
    }));
    this.table.querySelector(".ex-table").scrollTop = scrolled;
  }

  dispose() {
    this.forget();
    for (const panel of this.panels.values()) panel.dispose();
    this.panels.clear();
  }
}
