// What each producer of each topic sends, how late, and what becomes of it.

import { emptyState, errorState, h, swap, textField } from "../dom.js";
import * as format from "../format.js";
import { OTHER } from "../others.js";
import { PERIODS, ago, badge, counted, interval, panel, rate, segments, since, table, troubles } from "../operations/parts.js";
import { poll } from "../polling.js";
import { literal } from "../sql_text.js";

const PATH = "/api/v1/sources";
const LATE_MS = 60_000;
const SKEWED_MS = 1000;
const YEAR_MS = 31_557_600_000;

export const view = {
  id: "sources",
  title: "Sources",
  render(root, params, context) {
    const period = params.period ?? "1h";
    const asked = () => ({ start_time: since(period), source: params.source });
    const trouble = h("div", {});
    const body = h("div", {}, h("p", { class: "card quiet" }, "Reading …"));
    let isDrawn = false;
    root.append(h("div", { class: "toolbar" },
      segments("period", "Landed in the last", PERIODS, period, (value) => context.set({ period: value })),
      textField("source", "Topic", params.source ?? "", (value) => context.set({ source: value }), { placeholder: "any, or http" }),
      h("span", { class: "end" }, context.showAs(() => ({ request: { method: "GET", path: PATH, params: asked() }, sql: sql(period, params.source) })))),
    trouble, body);
    const reading = poll((signal) => context.api.get(PATH, asked(), { signal }), (found) => {
      isDrawn = true;
      swap(body, draw(found, context, period));
    }, {
      every: 10000,
      onError(error) {
        troubles(trouble, isDrawn ? error : null);
        if (error && !isDrawn) swap(body, errorState(error, () => reading.now()));
      },
    });
    return () => reading.close();
  },
};

function draw(found, context, period) {
  if (found.sources.length === 0) return emptyState("Nothing has landed", `No message of any source in this time (${period}, whole hours).`);
  const topics = new Map();
  for (const one of found.sources) topics.set(one.source, [...(topics.get(one.source) ?? []), one]);
  return [...topics].map(([source, producers], place) => topic(source, producers, place, context));
}

function topic(source, producers, place, context) {
  const sum = (name) => producers.reduce((total, one) => total + one[name], 0);
  const [read, dead, duplicate] = ["read", "dead", "duplicate"].map(sum);
  const note = `${rate(sum("rate"))} messages/s, ${format.number(read)} read, ${share(duplicate, read)} duplicates, ${share(dead, read)} dead letters`;
  return panel(source, { id: `topic-${place}`, note, tools: h("a", { href: context.href("ledger", { source }), class: "small" }, "Batches") },
    table(`Producers of ${source}`, columns(context), producers, (one) => ({ "data-producer": one.producer ?? "" })));
}

function columns(context) {
  const now = Date.now();
  return [
    { title: "Producer", isHeader: true, cell: (one) => (one.producer === OTHER ? "others, beyond 200 names" : one.producer ?? h("span", { class: "quiet" }, "gives no name")) },
    { title: "Messages/s", end: true, cell: (one) => rate(one.rate) },
    { title: "Read", end: true, cell: (one) => format.exact(one.read) },
    { title: "Late, p50", end: true, cell: (one) => late(one.lateness_p50_ms) },
    { title: "Late, p99", end: true, cell: (one) => [late(one.lateness_p99_ms), one.lateness_p99_ms > LATE_MS && [" ", badge("late", "warn", "More than a minute")]] },
    { title: "Clock ahead, p99", end: true, cell: (one) => [late(one.ahead_p99_ms), one.ahead_p99_ms > SKEWED_MS && [" ", badge("clock", "warn", "Its clock is more than a second ahead")]] },
    { title: "Most ahead", end: true, cell: (one) => late(one.ahead_max_ms) },
    { title: "Duplicates", end: true, cell: (one) => `${format.exact(one.duplicate)} (${share(one.duplicate, one.read)})` },
    { title: "Dead letters", cell: (one) => deadLetters(one, context) },
    { title: "Last", cell: (one) => ago(one.last_at, now, context.zone) },
  ];
}

function deadLetters(one, context) {
  if (one.dead === 0) return "none";
  const reasons = Object.entries(one.reasons).sort((a, b) => b[1] - a[1]);
  return [`${format.exact(one.dead)} (${share(one.dead, one.read)}) `, h("span", { class: "reasons small" }, reasons.map(([reason, count]) =>
    h("a", { href: context.href("dead-letters", { source: one.source, reason, status: "all" }), "aria-label": `${counted(count, "dead letter")} ${reason}` },
      `${format.exact(count)} ${reason}`)))];
}

/** Milliseconds, of clocks that may be wrong by decades, too. */
const late = (milliseconds) => (milliseconds === null ? format.NOTHING : milliseconds > YEAR_MS ? `${Math.round(milliseconds / YEAR_MS)} years` : format.duration(milliseconds / 1000));
const share = (part, whole) => format.number(whole ? (100 * part) / whole : 0, "percent");

const sql = (period, source) => `SELECT source, producer, sum(read) AS read, sum(stored) AS stored, sum(duplicate) AS duplicate,
       sum(dead) AS dead, max(ahead_max_ms) AS ahead_max_ms, max(last_at) AS last_at
FROM source_statistics_live
WHERE hour >= date_trunc('hour', now() - ${interval(period)}, 'UTC')${source ? `\n  AND source = ${literal(source)}` : ""}
GROUP BY source, producer ORDER BY source, sum(read) DESC;`;
