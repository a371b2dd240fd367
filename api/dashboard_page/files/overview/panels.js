// The live charts of the overview: what each asks for and how it is drawn.
//
// A panel has queries(settings): parameters of GET /api/v1/metrics without the range, by a name of their own; and
// draw(kept, view): {traces, layout, legend, summary} from the points that are kept of each query. `view` says
// {now, range, width, zone, colour}; times are milliseconds, `width` is that of a bucket.
//
// `top` of a query is the API's, which chooses by value. `largest` is the page's own, for values of either sign: it asks
// for all series, and shows those whose sums are the furthest from zero.

import * as format from "../format.js";
import { literal } from "../sql_text.js";
import { bars, candles, cumulated, line, told } from "./traces.js";

const TOP = 8;
const SHORTEST = 10_000; // of an open bucket, before its rate says anything

export const PANELS = [
  {
    id: "events",
    title: "Events per second",
    note: "by type",
    queries: () => ({ types: { metric_name: "events.count", group_by: "event_type", top: TOP } }),
    draw({ types }, view) {
      const rate = (value, time) => {
        const elapsed = Math.min(view.width, view.now - time);
        return elapsed < SHORTEST ? null : value / (elapsed / 1000);
      };
      return { ...bars(types, view, rate), summary: told(types, view, rate, "events per second") };
    },
  },
  {
    id: "volume",
    title: "Volume",
    note: "quote, by symbol",
    queries: () => ({ symbols: { metric_name: "trading.total_volume", group_by: "symbol", top: TOP } }),
    draw: ({ symbols }, view) => ({ ...bars(symbols, view), summary: told(symbols, view, undefined, "in quote currency") }),
  },
  {
    id: "fill_rate",
    title: "Fill rate",
    note: "orders filled ÷ placed",
    queries: () => ({ rate: { metric_name: "trading.order_fill_rate" } }),
    draw: ({ rate }, view) => ({
      ...line([[rate, "", "Fill rate"]], view, { layout: { yaxis: { ticksuffix: " %" } }, fills: true }),
      summary: told(rate, view, undefined, "percent"),
    }),
  },
  {
    id: "latency",
    title: "Fill latency",
    note: "ms, quantiles within 0.5 %",
    queries: () => Object.fromEntries(["p50", "p95", "p99"].map((name) => [name, { metric_name: "trading.order_latency", aggregation: name }])),
    draw: ({ p50, p95, p99 }, view) => ({
      ...line([[p50, "", "p50"], [p95, "", "p95"], [p99, "", "p99"]], view, { layout: { yaxis: { ticksuffix: " ms" } } }),
      summary: `p99: ${told(p99, view, undefined, "ms")}`,
    }),
  },
  {
    id: "pnl",
    title: "Realized pnl",
    note: "quote, added up, by strategy",
    queries: () => ({ strategies: { metric_name: "trading.realized_pnl", group_by: "strategy_id", largest: TOP } }),
    draw: ({ strategies }, view) => ({ ...cumulated(strategies, view), summary: `${strategies.series.size} strategies.` }),
  },
  {
    id: "users",
    title: "Active users",
    note: "distinct per bucket",
    queries: () => ({ users: { metric_name: "users.active" } }),
    draw: ({ users }, view) => ({ ...line([[users, "", "Users"]], view, { fills: true }), summary: told(users, view, undefined, "users") }),
  },
  {
    id: "candles",
    title: "Price",
    note: "open, high, low and close of market data; volume of our fills",
    isWide: true,
    queries: ({ symbol }) => (symbol ? {
      prices: { metric_name: "market.price", aggregation: "ohlc", dimension: `symbol:eq:${symbol}` },
      volume: { metric_name: "trading.total_volume", dimension: `symbol:eq:${symbol}` },
    } : {}),
    draw: ({ prices, volume }, view) => (prices ? { ...candles(prices, volume, view), summary: told(prices, view, undefined, "last price") } : null),
  },
];

/** SQL where metrics_live does not have what a panel shows; the rest follows from its request. */
export const SQL = {
  latency: (interval, range) =>
    "-- Settled buckets; what has landed since the last merge is in the API's answer alone.\n" +
    "SELECT time_bucket, p50, p95, p99\nFROM metric_aggregations\nWHERE metric_name = 'trading.order_latency' AND dimension_set = ''\n" +
    `  AND interval = '${interval}'\n  AND time_bucket >= now() - interval '${range}'\nORDER BY time_bucket;`,
  candles: (interval, range, symbol) =>
    "SELECT time_bucket, open, high, low, close, volume\nFROM market_analytics\n" +
    `WHERE symbol = ${literal(symbol ?? "")} AND interval = '${interval}'\n  AND time_bucket >= now() - interval '${range}'\nORDER BY time_bucket;`,
};
