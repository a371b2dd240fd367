// The ten numbers of the dashboard, each with its change against the period before and, where it fits, its last hour.

import { h, setText } from "../dom.js";
import * as format from "../format.js";
import { sparkline } from "../sparkline.js";

const MINUTE = 60_000;
const MOST_CUSTOM = 8;

// name, title, unit, what it is, what its change is against, whether less is better
const NUMBERS = [
  ["events_per_second", "Events per second", "", "since the previous minute began", "the two minutes before", false],
  ["active_users", "Active users", "", "distinct, 5 minutes", "the last whole 5 minutes against those before", false],
  ["active_strategies", "Active strategies", "", "distinct, 5 minutes", "the last whole 5 minutes against those before", false],
  ["orders_placed", "Orders placed", "", "1 hour", "the last 60 whole minutes against those before", false],
  ["orders_filled", "Orders filled", "", "1 hour", "the last 60 whole minutes against those before", false],
  ["total_volume", "Volume", "", "price × quantity of fills, 1 hour", "the last 60 whole minutes against those before", false],
  ["average_latency", "Fill latency", "ms", "average, 1 hour", "the last 60 whole minutes against those before", true],
  ["error_rate", "Error rate", "percent", "orders rejected ÷ placed, 1 hour", "the last 60 whole minutes against those before", true],
];

/** What the changes and the small lines are made of: queries of POST /api/v1/dashboard/query, seen from `now` (ms). */
export function tileQueries(now, custom) {
  const minute = Math.floor(now / MINUTE) * MINUTE;
  const five = Math.floor(now / (5 * MINUTE)) * 5 * MINUTE;
  const iso = (at) => new Date(at).toISOString();
  const hour = { start_time: iso(minute - 60 * MINUTE), end_time: iso(minute), interval: "1m", fill: "zero", compare: "previous" };
  const fives = { start_time: iso(five - 60 * MINUTE), end_time: iso(five), interval: "5m", fill: "zero" };
  return [
    { id: "events", metric_name: "events.count", ...hour },
    { id: "placed", metric_name: "trading.orders_placed", ...hour },
    { id: "filled", metric_name: "trading.orders_filled", ...hour },
    { id: "rejected", metric_name: "trading.orders_rejected", ...hour },
    { id: "volume", metric_name: "trading.total_volume", ...hour },
    { id: "latency_sum", metric_name: "trading.order_latency", aggregation: "sum", ...hour },
    { id: "latency_count", metric_name: "trading.order_latency", aggregation: "count", ...hour },
    { id: "users", metric_name: "users.active", ...fives },
    { id: "strategies", metric_name: "strategies.active", ...fives },
    ...custom.slice(0, MOST_CUSTOM).flatMap((name, place) => [
      { id: `custom_sum_${place}`, metric_name: name, aggregation: "sum", ...hour },
      { id: `custom_count_${place}`, metric_name: name, aggregation: "count", ...hour },
    ]),
  ];
}

/** Changes in percent and small lines by the name of the tile, from the answers to `tileQueries` by their id. */
export function tileHistory(answers, custom) {
  const points = (id) => answers.get(id)?.result?.data_points ?? [];
  const line = (id) => points(id).map((point) => point.value);
  const total = (id, field) => points(id).reduce((sum, point) => sum + (point[field] ?? 0), 0);
  const sums = (id) => [total(id, "value"), total(id, "compared")];
  const ratios = (above, below) => ["value", "compared"].map((field) => quotient(total(above, field), total(below, field)));
  const lastTwo = (values) => [values.at(-1), values.at(-2)];
  const found = new Map();
  const put = (name, [now, before], values) => found.set(name, { percent: now === before ? 0 : format.change(now, before), before, values });

  const events = line("events");
  put("events_per_second", [quotient(events.at(-1), 60), quotient((events.at(-2) ?? 0) + (events.at(-3) ?? 0), 120)], events);
  put("active_users", lastTwo(line("users")), line("users"));
  put("active_strategies", lastTwo(line("strategies")), line("strategies"));
  put("orders_placed", sums("placed"), line("placed"));
  put("orders_filled", sums("filled"), line("filled"));
  put("total_volume", sums("volume"), line("volume"));
  const each = (above, below) => line(above).map((value, place) => quotient(value, line(below)[place]));
  put("average_latency", ratios("latency_sum", "latency_count"), each("latency_sum", "latency_count"));
  put("error_rate", ratios("rejected", "placed"), each("rejected", "placed"));
  custom.slice(0, MOST_CUSTOM).forEach((name, place) => {
    put(name, ratios(`custom_sum_${place}`, `custom_count_${place}`), []);
  });
  return found;
}

const quotient = (above, below) => (below ? above / below : null);

/** The tiles. `show(dashboard)` sets the numbers, `compare(history)` what stands below them. */
export class Tiles {
  constructor(context) {
    this.context = context;
    this.parts = new Map();
    const tiles = NUMBERS.map(([name, title, unit, meaning, against, isLessBetter]) =>
      this.tile(name, title, meaning, { unit, against, isLessBetter, hasLine: true }));
    tiles.push(this.tile("custom_metrics", "Custom metrics", "averages, 1 hour", {}));
    tiles.push(this.tile("last_updated", "Last updated", `clock of ${context.zone}`, {}));
    this.customList = h("dl", { class: "custom-list" });
    this.element = h("div", {}, h("dl", { class: "tiles" }, tiles), this.customList);
  }

  tile(name, title, meaning, { unit = "", against = "", isLessBetter = false, hasLine = false }) {
    const value = h("span", { class: "tile-value number", "data-tile": name }, format.NOTHING);
    const change = h("span", { class: "tile-change number", "data-change": name, title: against && `Against ${against}` });
    const line = hasLine ? sparkline() : null;
    this.parts.set(name, { value, change, line, unit, against, isLessBetter });
    return h("div", { class: "card tile" },
      h("dt", { title: meaning }, title),
      h("dd", {}, value, change, line?.element, h("span", { class: "tile-meaning" }, meaning)));
  }

  show(dashboard) {
    for (const [name, , unit] of NUMBERS) {
      const { value } = this.parts.get(name);
      const number = unit === "percent" ? 100 * dashboard[name] : dashboard[name];
      setText(value, format.number(number, unit));
      value.title = format.exact(number);
    }
    const custom = Object.keys(dashboard.custom_metrics);
    setText(this.parts.get("custom_metrics").value, String(custom.length));
    setText(this.parts.get("custom_metrics").change, custom.length ? "" : "none defined");
    const updated = this.parts.get("last_updated");
    setText(updated.value, format.clock(dashboard.last_updated, this.context.zone));
    updated.value.title = dashboard.last_updated;
    this.custom = dashboard.custom_metrics;
    this.showCustom();
  }

  compare(history) {
    this.history = history;
    for (const [name, { change, line, isLessBetter, against }] of this.parts) {
      const found = history.get(name);
      if (!found) continue;
      this.showChange(change, found, isLessBetter, against);
      line?.draw(found.values);
    }
    this.showCustom();
  }

  showChange(node, { percent, before }, isLessBetter = false, against = "") {
    const text = format.changeText(percent);
    setText(node, percent === null ? "no earlier value" : text);
    const isUp = text.startsWith("+");
    const isDown = text.startsWith("−");
    node.dataset.direction = isUp || isDown ? (isUp === isLessBetter ? "worse" : "better") : "same";
    if (against) node.title = `Before: ${format.number(before)}. Compared: ${against}.`;
  }

  showCustom() {
    const names = Object.keys(this.custom ?? {}).sort();
    const text = names.join("\n");
    if (text !== this.customNames) {
      this.customNames = text;
      this.customParts = names.slice(0, MOST_CUSTOM).map((name) => {
        const value = h("span", { class: "number" });
        const change = h("span", { class: "tile-change number" });
        return { name, value, change, element: h("div", {}, h("dt", {}, name), h("dd", {}, value, " ", change)) };
      });
      const more = names.length - MOST_CUSTOM;
      this.customList.replaceChildren(...this.customParts.map((one) => one.element),
        ...(more > 0 ? [h("div", {}, h("dt", {}, `and ${more} more`), h("dd", {}, h("a", { href: "/api/v1/dashboard/metrics" }, "all as JSON")))] : []));
    }
    for (const { name, value, change } of this.customParts ?? []) {
      setText(value, format.number(this.custom[name]));
      const found = this.history?.get(name);
      if (found) this.showChange(change, found);
    }
  }
}
