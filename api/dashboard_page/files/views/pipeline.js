// Whether anything is wrong, what, and what to do; then how landing, settling and Dagster stand.

import { h, swap } from "../dom.js";
import * as format from "../format.js";
import { verdict } from "../operations/verdict.js";
import { ago, announcer, badge, counted, panel, rate, table, troubles } from "../operations/parts.js";
import { byState, standingOf } from "../operations/names.js";
import { backfillsPanel, checksPanel, planPanel, runsPanel } from "../operations/upkeep.js";
import { poll } from "../polling.js";

const REQUEST = { method: "GET", path: "/api/v1/pipeline" };
const SQL = `SELECT source, partition, next_offset, caught_up_at, now() - caught_up_at AS behind
FROM ingest_offsets WHERE NOT is_retired ORDER BY source, partition;`;

export const view = {
  id: "pipeline",
  title: "Pipeline",
  render(root, params, context) {
    const parts = Object.fromEntries(["verdict", "trouble", "tiles", "landing", "upkeep", "upkeepTrouble"].map((name) => [name, h("div", {})]));
    parts.upkeep.className = "grid upkeep";
    swap(parts.verdict, h("p", { class: "card quiet" }, "Looking …"));
    root.append(parts.verdict, parts.trouble, parts.tiles, parts.landing, parts.upkeepTrouble, parts.upkeep);
    const tell = announcer(context, "#verdict-title");
    const now = poll((signal) => read(context, signal), ([found, health]) => {
      swap(parts.verdict, verdict(found, health, context));
      tell(parts.verdict);
      swap(parts.tiles, tiles(found, health, context));
      swap(parts.landing, h("div", { class: "grid" }, partitions(found, context), rollups(found, context)));
    }, {
      every: 3000,
      onError(error) {
        const isFirst = parts.tiles.childElementCount === 0;
        troubles(parts.trouble, isFirst ? null : error);
        if (!error) return;
        swap(parts.verdict, verdict(null, null, context, error, () => now.now()));
        tell(parts.verdict);
      },
    });
    const upkeep = poll((signal) => readUpkeep(context, signal), ([runs, backfills, plan]) => {
      swap(parts.upkeep, runsPanel(runs, context), checksPanel(runs, context), backfillsPanel(backfills, context), planPanel(plan, context));
    }, { every: 15000, onError: (error) => troubles(parts.upkeepTrouble, parts.upkeep.childElementCount && error) });
    return () => {
      now.close();
      upkeep.close();
    };
  },
};

async function read(context, signal) {
  const health = context.api.get("/health", {}, { signal }).catch((error) => {
    if (error.problem?.database) return error.problem; // 503 says what is away
    throw error;
  });
  return Promise.all([context.api.send(REQUEST, { signal }), health]);
}

/** One after the other: the desk of operators has four places, and others sit there, too. */
async function readUpkeep(context, signal) {
  const found = [];
  for (const path of ["/api/v1/pipeline/runs", "/api/v1/backfills", "/api/v1/retention/plan"]) {
    found.push(await context.api.get(path, {}, { signal }));
  }
  return found;
}

function tiles(found, health, context) {
  const now = Date.parse(found.at);
  const { landing, rollups: settled, last_hour: hour } = found;
  const read = landing.partitions.filter((one) => !one.is_retired);
  const behind = read.map((one) => one.behind_seconds);
  const lags = read.map((one) => one.lag).filter((one) => one !== null);
  const share = hour.read ? (100 * hour.dead) / hour.read : 0;
  const shown = [
    ["Landing", rate(landing.rate), "messages a second, last minute", null],
    ["Behind Kafka", behind.length && !behind.includes(null) ? format.duration(Math.max(...behind)) : format.NOTHING, "since the slowest partition had everything", null],
    ["Lag", lags.length ? format.number(lags.reduce((sum, one) => sum + one, 0)) : format.NOTHING, lags.length < read.length ? "messages; not known of all partitions" : "messages that Kafka holds beyond", null],
    ["Inbox", format.number(landing.inbox_events), landing.inbox_events ? `posted events wait, the oldest ${format.duration(landing.inbox_oldest_seconds)}` : "posted events wait", null],
    ["Dead letters", format.number(hour.dead), `of ${format.number(hour.read)} messages in 1 h, ${format.number(share, "percent")}`, context.href("dead-letters", { period: "1h" })],
    ["Settled", settled.settled_at ? ago(settled.settled_at, now, context.zone) : format.NOTHING, settled.pending_deltas ? `${format.number(settled.pending_deltas)} deltas wait for the next merge` : "nothing waits for a merge", null],
    ["Restated", format.number(settled.restated), "final buckets that changed in 24 h", context.href("restatements")],
    ["Postgres", health.database, health.database === "connected" ? "where all truth is" : health.detail, null],
    ["Redis", health.cache, health.cache === "connected" ? "answers at hand" : "answers are right, only slower", null],
  ];
  return h("dl", { class: "grid tiles-small" }, shown.map(([name, value, meaning, href]) => h("div", { class: "card tile-small", "data-tile": name },
    h("dt", {}, href ? h("a", { href }, name) : name), h("dd", { class: "tile-value number" }, value), h("dd", { class: "quiet" }, meaning))));
}

function partitions(found, context) {
  const rows = found.landing.partitions;
  const columns = [
    { title: "Partition", isHeader: true, cell: (one) => `${one.source}/${one.partition}` },
    { title: "State", cell: (one) => badge(...standingOf(one)) },
    { title: "Behind", end: true, cell: (one) => format.duration(one.behind_seconds) },
    { title: "Lag", end: true, cell: (one) => (one.lag === null ? format.NOTHING : format.exact(one.lag)) },
    { title: "Messages/s", end: true, cell: (one) => rate(one.rate) },
    { title: "Next offset", end: true, cell: (one) => format.exact(one.next_offset) },
  ];
  return panel("Partitions", { id: "partitions", isWide: true, note: `${format.number(found.landing.connections)} landing connections`, tools: context.showAs(() => ({ request: REQUEST, sql: SQL })) },
    rows.length
      ? table("Partitions of Kafka", columns, [...rows].sort(byState), (one) => ({ "data-partition": `${one.source}/${one.partition}` }))
      : h("p", { class: "state" }, "Nothing was ever read from Kafka."));
}

function rollups(found, context) {
  const { unsettled, due, pending_hours: hours, run_id: run } = found.rollups;
  const by = group(unsettled);
  const rows = ["1m", "5m", "15m", "1h", "1d"].filter((name) => by[name]).map((name) => ({
    name,
    open: by[name].find((one) => one.state === "open"),
    settling: by[name].find((one) => one.state === "settling"),
    oldest: by[name].map((one) => one.oldest).sort()[0],
  }));
  const columns = [
    { title: "Interval", isHeader: true, cell: (one) => one.name },
    { title: "Open", end: true, cell: (one) => format.exact(one.open?.count ?? 0) },
    { title: "Settling", end: true, cell: (one) => format.exact(one.settling?.count ?? 0) },
    { title: "Oldest that is not final", cell: (one) => h("span", {}, format.time(one.oldest, context.zone)) },
  ];
  return panel("Buckets that are not final", { id: "unsettled", isWide: true, note: `${due} due, deltas in ${counted(hours, "hour")}` },
    rows.length ? table("Buckets that are not final, by interval", columns, rows) : h("p", { class: "quiet" }, "Every bucket is final."),
    run && h("p", { class: "quiet small" }, "Last settled by run ", h("code", {}, run), "."));
}

function group(rows) {
  const found = {};
  for (const row of rows) (found[row.interval] ??= []).push(row);
  return found;
}
