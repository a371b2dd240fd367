// The state of the trading system at a glance: ten numbers and seven live charts.
//
// One stream brings the numbers, twice a second while events land; once a second its beat asks for the last buckets of all
// charts in one call, so that all are from one moment. The whole range is read at first, and again every minute for what came late.

import { errorState, h } from "../dom.js";
import { Board } from "../overview/board.js";
import { tileHistory, tileQueries, Tiles } from "../overview/tiles.js";

const RANGES = { "15m": "1m", "1h": "1m", "6h": "5m", "24h": "15m", "7d": "1h" };
const WHOLE_EVERY = 60_000;
const HISTORY_EVERY = 15_000;
const BEAT = 1000;
const DASHBOARD = { method: "GET", path: "/api/v1/dashboard/metrics" };
const QUERY = "/api/v1/dashboard/query";
const VALUES = "/api/v1/dimensions/symbol/values";
const TRADED = { id: "traded", metric_name: "trading.total_volume", group_by: "symbol", interval: "1h", last: "24h" };

export const view = {
  id: "overview",
  title: "Overview",
  render(root, params, context) {
    const overview = new Overview(root, params, context);
    overview.start();
    return () => overview.dispose();
  },
};

/** Of symbols that have a price, that of the highest volume of a day; the first one where nothing was traded. */
function mostTraded({ status, body }, symbols) {
  const volumes = new Map(symbols.map((symbol) => [symbol, 0]));
  for (const { dimensions: { symbol }, value } of status === 200 ? body.result.data_points : []) {
    if (volumes.has(symbol)) volumes.set(symbol, volumes.get(symbol) + (value ?? 0));
  }
  return [...symbols].sort((one, other) => volumes.get(other) - volumes.get(one))[0] ?? "";
}

class Overview {
  constructor(root, params, context) {
    this.root = root;
    this.context = context;
    this.range = params.range in RANGES ? params.range : "1h";
    this.symbol = params.symbol ?? "";
    this.wanted = new AbortController();
    this.closers = [() => this.wanted.abort()];
    this.isAsking = false;
    this.askedAt = -Infinity;
    this.wholeAt = -Infinity;
    this.historyAt = -Infinity;
    this.now = null;
    this.tiles = new Tiles(context);
    this.problem = h("div", { hidden: true });
  }

  async start() {
    const { context } = this;
    const ranges = h("div", { class: "segments", role: "group", "aria-label": "Range" }, Object.keys(RANGES).map((range) =>
      h("button", { type: "button", id: `range-${range}`, "aria-pressed": String(range === this.range), onclick: () => context.set({ range: range === "1h" ? null : range }) }, range)));
    this.root.append(
      h("div", { class: "toolbar middle" }, ranges, h("span", { class: "quiet" }, `buckets of ${RANGES[this.range]}; the one that is not over is dashed or hatched`),
        h("span", { class: "end" }, context.showAs(() => ({ request: DASHBOARD, sql: "SELECT refresh_dashboard_metrics();\nSELECT * FROM dashboard_metrics;" }), "Show the numbers as curl, Python, SQL"))),
      this.problem, this.tiles.element);
    try {
      await this.prepare();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
  }

  async prepare() {
    const { signal } = this.wanted;
    const queries = [{ id: "now", tiles: ["last_updated", "custom_metrics"] }, TRADED];
    const [tiles, traded] = (await this.context.api.post(QUERY, { queries }, { signal })).results;
    const symbols = await this.symbols();
    if (signal.aborted) return;
    this.symbol ||= mostTraded(traded, symbols);
    this.board = new Board(this.context, { range: this.range, interval: RANGES[this.range], symbol: this.symbol });
    this.closers.push(() => this.board.dispose());
    this.root.append(this.board.element);
    this.addSymbolChoice(symbols);
    if (tiles.status === 200) {
      this.closers.push(this.context.follow("dashboard", {}, { dashboard: (found) => this.beat(found) }, { beats: true }));
    } else {
      // A key that sees a part of the events: no numbers about all of them, and no stream of these.
      this.tiles.element.replaceChildren(h("p", { class: "card quiet" }, tiles.body.detail));
      const timer = setInterval(() => this.beat(null), BEAT);
      this.closers.push(() => clearInterval(timer));
    }
  }

  async symbols() {
    try {
      const found = await this.context.api.get(VALUES, { metric_name: "market.price", limit: 200 }, { signal: this.wanted.signal });
      return found.values.filter((value) => value !== null);
    } catch (error) {
      if (error.status === 403) return [];
      throw error;
    }
  }

  addSymbolChoice(symbols) {
    const chosen = this.symbol;
    const all = chosen && !symbols.includes(chosen) ? [chosen, ...symbols] : symbols;
    if (!all.length) return;
    this.board.toolsOf("candles").prepend(h("select", { id: "symbol", "aria-label": "Symbol", onchange: (event) => this.context.set({ symbol: event.target.value }) },
      all.map((symbol) => h("option", { value: symbol, selected: symbol === chosen }, symbol))));
  }

  /** There is something new, or a second has passed; `dashboard` are its numbers, null if there are none for this key. */
  async beat(dashboard) {
    if (dashboard) {
      this.tiles.show(dashboard);
      this.now = Date.parse(dashboard.last_updated);
      this.custom = Object.keys(dashboard.custom_metrics).sort();
    } else {
      this.now = Date.now();
    }
    // A beat may come a little early.
    if (this.isAsking || document.hidden || performance.now() - this.askedAt < 0.9 * BEAT) return;
    this.isAsking = true;
    this.askedAt = performance.now();
    try {
      await this.refresh(Boolean(dashboard));
      this.problem.hidden = true;
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    } finally {
      this.isAsking = false;
    }
  }

  async refresh(hasTiles) {
    const { now, custom } = this;
    const whole = now - this.wholeAt >= WHOLE_EVERY;
    const isTimeForHistory = hasTiles && now - this.historyAt >= HISTORY_EVERY;
    const answers = await this.ask(this.board.queries({ whole }));
    if (whole) this.wholeAt = now;
    if (isTimeForHistory) {
      const history = await this.ask(tileQueries(now, custom));
      this.historyAt = now;
      this.tiles.compare(tileHistory(new Map([...history].map(([id, { body }]) => [id, body])), custom));
    }
    await this.board.take(answers, { whole });
  }

  async ask(queries) {
    const found = await this.context.api.post(QUERY, { queries }, { signal: this.wanted.signal });
    return new Map(found.results.map((one) => [one.id, one]));
  }

  fail(error) {
    this.problem.hidden = false;
    this.problem.replaceChildren(errorState(error, () => this.context.set({})));
  }

  dispose() {
    for (const close of this.closers) close();
  }
}
