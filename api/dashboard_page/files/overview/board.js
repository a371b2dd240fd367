// The charts of the overview on one board: their cards, what they ask for, what is kept, and when each is drawn.

import { h, setText } from "../dom.js";
import { widthOf } from "../buckets.js";
import { seriesColour } from "../charts.js";
import { colour } from "../theme.js";
import { Kept } from "./kept.js";
import { PANELS, SQL } from "./panels.js";

const SPELLED = { m: "minutes", h: "hours", d: "days" };

export class Board {
  /** `settings`: {range, interval, symbol}; `range` as the API's `last`. */
  constructor(context, settings) {
    this.context = context;
    this.settings = settings;
    this.width = widthOf(settings.interval);
    this.panels = PANELS.map((panel) => this.panel(panel));
    this.element = h("div", { class: "grid charts" }, this.panels.map((one) => one.card));
  }

  panel(panel) {
    const figure = this.context.chart({ label: panel.title, ...(panel.isWide ? { height: 340, share: 28 } : { height: 230, share: 20 }) });
    const legend = h("ul", { class: "legend" });
    const message = h("p", { class: "chart-message quiet" }, "Loading …");
    const queries = panel.queries(this.settings);
    const tools = h("div", { class: "panel-tools" }, this.context.showAs(() => this.shown(panel, queries), `Show ${panel.title} as curl, Python, SQL`));
    const id = `panel-${panel.id}`;
    const card = h("section", { class: `card panel${panel.isWide ? " wide" : ""}`, "aria-labelledby": id, "data-panel": panel.id },
      h("header", {}, h("h2", { id }, panel.title), h("span", { class: "quiet" }, panel.note), tools),
      h("div", { class: "chart-room" }, figure.element, message), legend);
    const kept = Object.fromEntries(Object.entries(queries).map(([name, query]) => [name, new Kept({ isFolded: "top" in query, largest: query.largest })]));
    return { panel, figure, legend, message, queries, kept, card, tools, seen: "" };
  }

  /** The card of a panel, to put something of the view into its header. */
  toolsOf(id) {
    return this.panels.find(({ panel }) => panel.id === id).tools;
  }

  /** Queries of POST /api/v1/dashboard/query: of the whole range, or of its last buckets alone. */
  queries({ whole }) {
    const last = whole ? this.settings.range : `${(2 * this.width) / 60_000}m`;
    return this.panels.flatMap(({ panel, queries }) =>
      Object.entries(queries).map(([name, { top, largest, ...query }]) => ({
        id: `${panel.id}.${name}`, ...query, interval: this.settings.interval, last, ...(whole && top ? { top } : {}),
      })));
  }

  /** Take the answers, {status, body} by the id of their query, and draw what has changed. */
  async take(answers, { whole }) {
    const read = [...answers.values()].find(({ status }) => status === 200);
    // The moment of the answers: the clock of the browser may be another, and the answers may have taken long.
    const now = read ? Date.parse(read.body.result.end_time) : 0;
    const since = now - rangeOf(this.settings.range);
    const ready = [];
    for (const one of this.panels) {
      const refused = Object.keys(one.queries).map((name) => answers.get(`${one.panel.id}.${name}`)).find((answer) => answer && answer.status !== 200);
      if (refused) {
        this.say(one, refused.body.detail ?? "This could not be read.");
        continue;
      }
      for (const [name, kept] of Object.entries(one.kept)) {
        const answer = answers.get(`${one.panel.id}.${name}`);
        if (answer) kept.take(answer.body.result, { whole, since });
      }
      const draw = this.prepare(one, now);
      if (draw) ready.push(draw);
    }
    // One after the other, so that the page can answer in between, to the stream too: a promise alone lets nothing in.
    for (const draw of ready) {
      await draw();
      await new Promise((resolve) => setTimeout(resolve));
    }
  }

  /** Say what a panel shows, in words; the answer draws it, and is null if there is nothing to draw. */
  prepare(one, now) {
    const view = { now, range: rangeOf(this.settings.range), width: this.width, zone: this.context.zone, colour: seriesColour, named: colour };
    const kept = Object.values(one.kept);
    const isEmpty = kept.every(({ times }) => times.length === 0);
    if (isEmpty) {
      this.say(one, kept.length ? "Nothing in this range yet." : "No symbol has had a price yet.");
      return null;
    }
    one.message.hidden = true;
    one.figure.element.hidden = false;
    const make = () => one.panel.draw(one.kept, view);
    this.tell(one, make());
    return () => one.figure.draw(() => make().traces, () => make().layout ?? {});
  }

  tell(one, { legend, summary }) {
    one.figure.describe(summary);
    const text = JSON.stringify(legend);
    if (text === one.seen) return;
    one.seen = text;
    one.legend.replaceChildren(...legend.map(([title, shade]) => {
      const swatch = h("span", { class: "swatch", "aria-hidden": "true" });
      swatch.style.background = shade;
      return h("li", {}, swatch, title);
    }));
  }

  say(one, text) {
    one.figure.element.hidden = true;
    one.message.hidden = false;
    setText(one.message, text);
    one.legend.replaceChildren();
    one.seen = "";
  }

  shown(panel, queries) {
    const { interval, range, symbol } = this.settings;
    const params = Object.values(queries).map(({ largest, ...query }) => ({ ...query, interval, last: range }));
    const spelled = range.replace(/(\d+)([mhd])/, (_, count, unit) => `${count} ${SPELLED[unit]}`);
    const sql = SQL[panel.id]?.(interval, spelled, symbol);
    if (params.length === 1) return { request: { method: "GET", path: "/api/v1/metrics", params: params[0] }, sql };
    const names = Object.keys(queries);
    const body = { queries: params.map((query, place) => ({ id: names[place], ...query })) };
    return { request: { method: "POST", path: "/api/v1/dashboard/query", body }, sql };
  }

  dispose() {
    for (const { figure } of this.panels) figure.dispose();
  }
}

/** Milliseconds of a range as the API's `last` says it. */
export function rangeOf(text) {
  const [, count, unit] = /^(\d+)([mhd])$/.exec(text);
  return Number(count) * { m: 60_000, h: 3_600_000, d: 86_400_000 }[unit];
}
