// The ten numbers of the dashboard, live.

import { h, setText } from "../dom.js";
import * as format from "../format.js";

const TILES = [
  ["events_per_second", "Events per second", "1", "since the previous minute began"],
  ["active_users", "Active users", "1", "distinct, 5 minutes"],
  ["active_strategies", "Active strategies", "1", "distinct, 5 minutes"],
  ["orders_placed", "Orders placed", "1", "1 hour"],
  ["orders_filled", "Orders filled", "1", "1 hour"],
  ["total_volume", "Volume", "quote", "price × quantity of fills, 1 hour"],
  ["average_latency", "Fill latency", "ms", "average, 1 hour"],
  ["error_rate", "Error rate", "percent", "rejected ÷ placed, 1 hour"],
];

export const view = {
  id: "overview",
  title: "Overview",
  render(root, params, context) {
    const values = new Map();
    const tiles = TILES.map(([name, title, , meaning]) => {
      const value = h("dd", { class: "tile-value number", "data-tile": name }, format.NOTHING);
      values.set(name, value);
      return h("div", { class: "card tile" }, h("dt", {}, title), value, h("dd", { class: "quiet" }, meaning));
    });
    root.append(h("dl", { class: "grid tiles" }, tiles));
    return context.follow("dashboard", {}, {
      dashboard(found) {
        for (const [name, , unit] of TILES) {
          const value = unit === "percent" ? 100 * found[name] : found[name];
          setText(values.get(name), format.number(value, unit));
        }
      },
    }, { beats: true });
  },
};
