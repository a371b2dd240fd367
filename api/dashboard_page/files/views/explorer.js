// Any metric, asked for in any way: the question above, the chart, the values beneath.
//
// Belongs here: who asks what when. Does not belong here: the question (`explorer/question`), drawing (`explorer/drawing`).

import { emptyState, errorState, h, setText, swap } from "../dom.js";
import { entryOf, entriesOf, fitted, grouped } from "../explorer/catalog.js";
import { controls, INTERVAL_TEXTS } from "../explorer/controls.js";
import { Drawing } from "../explorer/drawing.js";
import { Follower } from "../explorer/follower.js";
import { findNames, findValues, newestDay, restatementsOf } from "../explorer/look_ups.js";
import { rangeOf, readQuestion, requestParams, withRange, writeQuestion } from "../explorer/question.js";
import { READ_ONCE, remarksOf } from "../explorer/remarks.js";
import { resultsOf, seriesOf } from "../explorer/series.js";
import { sqlOf } from "../explorer/sql.js";
import { columnsOf, csvOf } from "../explorer/table.js";
import { dayText, momentText } from "../explorer/ticks.js";
import { REFUSED } from "../live.js";

const FIRST_METRIC = "events.count";
const PATH = "/api/v1/metrics";
const DAY = 86400000;
let catalog = []; // kept while the page is open, so that going back and forth shows fields at once

export const view = {
  id: "explorer",
  title: "Explorer",
  render(root, params, context) {
    const explorer = new Explorer(root, context);
    explorer.begin(params);
    return { dispose: () => explorer.dispose(), update: (changed, renewed) => explorer.update(changed, renewed) };
  },
};

class Explorer {
  constructor(root, context) {
    this.context = context;
    this.wanted = new AbortController();
    this.answer = null;
    this.isCustom = false;
    this.adding = { name: "", operator: "eq" };
    this.fields = h("section", { class: "card ex-fields", "aria-label": "Question" });
    this.notes = h("ul", { class: "ex-notes", "aria-label": "Remarks" });
    this.title = h("h2", { class: "ex-title" });
    this.live = h("button", { type: "button", id: "ex-live", class: "ex-live",
      onclick: () => this.change({ ...this.question, live: !this.question.live }) }, "Live");
    this.csv = h("button", { type: "button", class: "plain", onclick: () => this.download() }, "CSV");
    this.place = h("div", { class: "ex-place", role: "region", "aria-label": "Chart and values" }, h("p", { class: "quiet" }, "Loading …"));
    root.append(this.fields, h("section", { class: "card ex-card-main" },
      h("header", {}, this.title, h("div", { class: "ex-tools" }, this.live, this.csv, context.showAs(() => this.shown()))), this.notes, this.place));
    this.drawing = new Drawing(context.chart, {
      onZoom: (start, end) => this.zoom(start, end),
      onOut: () => this.zoomOut(),
      onSort: (sort) => this.change({ ...this.question, sort }),
      onHide: (hide) => this.change({ ...this.question, hide }),
    });
    this.follower = new Follower(context.follow, () => this.read());
  }

  async begin(params) {
    this.take(params);
    try {
      catalog = (await this.context.api.get("/api/v1/metrics/catalog", {}, { signal: this.wanted.signal })).metrics;
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
      return;
    }
    this.take(params);
    this.ask();
  }

  update(params, context) {
    this.context = context;
    this.take(params);
    this.ask();
  }

  /** Take the question of an address. */
  take(params) {
    const question = readQuestion(params, this.context.zone, catalog);
    this.remarks = remarksOf(params, this.context.zone);
    const isKnown = !catalog.length || catalog.some(({ name }) => name === FIRST_METRIC);
    if (!question.metrics.length) question.metrics = [isKnown ? FIRST_METRIC : catalog[0].name];
    this.question = grouped(question, entriesOf(catalog, question));
    this.drawFields();
  }

  /** Put another question into the address, which leads back here. */
  change(question) {
    this.isCustom = false;
    const settings = writeQuestion(fitted(question, entriesOf(catalog, question)));
    if (JSON.stringify(settings) === JSON.stringify(writeQuestion(this.question))) this.drawFields();
    else this.context.set({ ...Object.fromEntries(READ_ONCE.map((name) => [name, null])), ...settings });
  }

  drawFields() {
    swap(this.fields, controls(catalog, { question: this.question, isCustom: this.isCustom }, {
      change: (question) => this.change(question),
      names: (text) => findNames(this.context.api, catalog, text),
      values: (dimension, text) => findValues(this.context.api, this.question, dimension, text),
      adding: this.adding,
      custom: (isOpen) => { this.isCustom = isOpen; this.drawFields(); },
    }));
    this.live.setAttribute("aria-pressed", String(this.question.live));
    this.live.hidden = Boolean(this.question.end);
    setText(this.title, this.question.metrics.join(", "));
    this.showAuto();
  }

  /** Say what the interval `auto` came to. */
  showAuto() {
    const option = this.fields.querySelector("#ex-interval option[value=auto]");
    if (option && this.answer && this.question.interval === "auto") setText(option, `auto (${INTERVAL_TEXTS[resultsOf(this.answer)[0].interval]})`);
  }

  params() {
    return { ...requestParams(this.question), counts: 1 };
  }

  /** Ask the question of the moment, and follow it if it ends now. */
  async ask() {
    this.follower.stop();
    this.wanted.abort();
    this.wanted = new AbortController();
    this.place.setAttribute("aria-busy", "true");
    const isRefused = await this.read();
    // What was refused is refused to the stream, too, however often it asks.
    if (this.question.live && !isRefused && !this.wanted.signal.aborted) {
      this.follower.start(this.params(), this.question, () => this.answer, (answer) => this.show(answer));
    }
  }

  /** Read and show the answer; whether the question is refused and stays so. */
  async read() {
    const { signal } = this.wanted;
    try {
      const answer = await this.context.api.send({ method: "GET", path: PATH, params: this.params() }, { signal });
      if (!signal.aborted) await this.show(answer);
    } catch (error) {
      if (error.name === "AbortError") return false;
      this.fail(error);
      return REFUSED.has(error.status);
    }
    return false;
  }

  async show(answer) {
    const { signal } = this.wanted;
    const isFirst = this.answer === null || this.place.getAttribute("aria-busy") === "true";
    this.answer = answer;
    const series = seriesOf(answer);
    if (isFirst) this.showAuto();
    this.place.setAttribute("aria-busy", "false");
    this.csv.disabled = !series.length;
    this.note(answer.warnings ?? []);
    if (!series.some((one) => one.points.some((point) => point.value !== null))) {
      if (isFirst || !this.place.querySelector(".state")) await this.showNothing(signal);
      return;
    }
    if (this.drawing.element.parentNode !== this.place) this.place.replaceChildren(this.drawing.element);
    const entryFor = (name) => entryOf(catalog, name);
    const [start, end] = rangeOf(this.question, Date.now());
    this.drawing.draw(series, { question: this.question, range: [start, end], entryFor });
    await this.lookForRestatements(series, signal);
  }

  /** Read the feed when other buckets are restated than before. */
  async lookForRestatements(series, signal) {
    const of = (points) => points.filter(({ state }) => state === "restated").map(({ at, revision }) => [at, revision]);
    const restated = JSON.stringify(series.map((one) => [one.metric, of(one.points)]));
    if (restated === this.restated) return;
    this.restated = restated;
    const feed = await restatementsOf(this.context.api, series, signal);
    if (!signal.aborted) this.drawing.restated(feed);
  }

  /** Say what of the address is not shown, and what the answer warns of. */
  note(warnings) {
    const texts = [...this.remarks, ...warnings];
    if (texts.join("\n") === this.noted) return;
    this.noted = texts.join("\n");
    this.notes.replaceChildren(...texts.map((text) => h("li", {}, text)));
  }

  fail(error) {
    this.answer = null;
    this.place.setAttribute("aria-busy", "false");
    this.csv.disabled = true;
    this.note([]);
    this.place.replaceChildren(errorState(error, () => this.ask()));
  }

  /** There is nothing in the range: say so, and where something is. */
  async showNothing(signal) {
    const { question } = this;
    const [start, end] = rangeOf(question, Date.now());
    const when = `from ${momentText(start, question.zone)} to ${momentText(end, question.zone)}`;
    const state = emptyState("Nothing in this range", `No value of ${question.metrics.join(", ")} ${when}.`);
    this.place.replaceChildren(state);
    const day = await newestDay(this.context.api, question, signal);
    if (signal.aborted) return;
    if (day === null) {
      state.append(h("p", {}, "Nothing of it is stored at any time", question.filters.length > 0 && ", with these filters", "."));
      if (question.filters.length) state.append(h("button", { type: "button", onclick: () => this.change({ ...question, filters: [] }) }, "Without filters"));
      return;
    }
    state.append(h("button", { type: "button", class: "primary", onclick: () => this.change(withRange(question, day, day + DAY)) },
      `Show ${dayText(day)}, the newest day with values`));
  }

  zoom(start, end) {
    const minute = 60000;
    const [from, until] = [Math.floor(start / minute) * minute, Math.ceil(end / minute) * minute];
    const interval = until - from < 2 * (this.drawing.width ?? minute) ? "auto" : this.question.interval;
    this.change({ ...withRange(this.question, from, until), interval });
  }

  zoomOut() {
    const [start, end] = rangeOf(this.question, Date.now());
    const half = (end - start) / 2;
    const until = Math.min(end + half, Math.max(end, Date.now()));
    this.change(withRange(this.question, Math.floor((until - 4 * half) / 1000) * 1000, Math.ceil(until / 1000) * 1000));
  }

  /** What "show as" shows. */
  shown() {
    const { metric_name: names, ...more } = requestParams(this.question);
    for (const name of ["top", "max_points"]) if (name in more) more[name] = Number(more[name]);
    const params = { metric_name: names.length === 1 ? names[0] : names, ...more };
    const sql = this.answer ? sqlOf(this.question, entriesOf(catalog, this.question), resultsOf(this.answer)) : null;
    return { request: { method: "GET", path: PATH, params }, sql };
  }

  download() {
    const series = seriesOf(this.answer);
    const columns = columnsOf(series, { zone: this.question.zone, entryFor: (name) => entryOf(catalog, name) });
    const href = URL.createObjectURL(new Blob([csvOf(series, columns)], { type: "text/csv" }));
    const link = h("a", { href, download: `${this.question.metrics.join("_")}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  dispose() {
    this.wanted.abort();
    this.follower.stop();
    this.drawing.dispose();
  }
}
