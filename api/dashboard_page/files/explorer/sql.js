// A question as SQL over `metrics_live`, the public view of settled and pending rows, for each metric one statement.
//
// Belongs here: what the API computes, said in SQL, or said that SQL has not got it. Does not belong here: the question
// (`question`), other languages (`request_forms`).

import { widthOf } from "../buckets.js";
import { OTHER } from "../others.js";
import { literal } from "../sql_text.js";
import { isRateOfSum } from "./catalog.js";
import { isoOf } from "./question.js";

const STORED_QUANTILES = ["p50", "p95", "p99"];
const SETTLED_ONLY = "-- Settled rows only: what has landed since the last merge is in the API's answer alone.";

/**
 * SQL text.
 *
 * @param question what is asked.
 * @param entries the metrics' entries in the catalog.
 * @param answered of each metric its result: `interval`, `start_time`, `end_time`, `aggregation`.
 */
export function sqlOf(question, entries, answered) {
  const statements = answered.map((result) => {
    const entry = entries.find((one) => one.name === result.metric_name);
    return entry ? statement(question, entry, result) : `-- ${result.metric_name} is in no catalog.`;
  });
  return statements.join("\n\n");
}

function statement(question, entry, result) {
  const plan = planOf(question, entry, result);
  const refusal = refusalOf(plan);
  if (refusal) return `-- ${plan.name}, ${plan.aggregation}: ${refusal}`;
  const notes = [];
  if (plan.source !== "metrics_live") notes.push(SETTLED_ONLY);
  if (question.fill !== "none") notes.push("-- A bucket without events has no row here; the API fills it in.");
  return [...notes, plan.isTop || plan.compare ? withParts(plan) : `${grouped(plan)}\nORDER BY ${ordinals(plan)};`].join("\n");
}

function planOf(question, entry, result) {
  const { aggregation, interval } = result;
  const filtered = question.filters.map((filter) => filter.name);
  const needed = [...new Set([...question.groupBy, ...filtered, ...(entry.family ? [entry.name_by] : [])])];
  const sets = [...entry.dimension_sets].sort((one, other) => one.length - other.length);
  const stored = entry.family ? needed : (sets.find((set) => needed.every((name) => set.includes(name))) ?? needed);
  const zone = result.time_zone ?? "UTC";
  const level = levelOf(interval, zone, Date.parse(result.start_time));
  const isState = STORED_QUANTILES.includes(aggregation) || aggregation === "distinct";
  return {
    name: entry.name,
    entry,
    aggregation,
    interval,
    zone,
    level,
    isComposed: level !== interval || (interval === "1d" && zone !== "UTC"),
    groupBy: question.groupBy,
    filters: question.filters,
    dimensionSet: aggregation === "skipped" ? "_skipped" : needed.length ? [...stored].sort().join(",") : "",
    isAddedUp: needed.length > 0 && !stored.every((name) => question.groupBy.includes(name) || isPinned(question, name)),
    isState,
    source: isState ? "metric_aggregations" : "metrics_live",
    isTop: Number(question.top) > 0 && question.groupBy.length > 0,
    top: Number(question.top),
    compare: question.compare,
    // Compared ranges are of this moment, so that both fit; others go on with the clock.
    start: question.last && !question.compare ? null : Date.parse(result.start_time),
    end: question.last && !question.compare ? null : Date.parse(result.end_time),
    last: question.last,
  };
}

function isPinned(question, name) {
  return question.filters.some((filter) => filter.name === name && filter.operator === "eq");
}

/** The level whose rows make such buckets; offsets are whole quarters of an hour. */
function levelOf(interval, zone, at) {
  if (zone === "UTC" || (interval !== "1d" && interval !== "1h")) return interval;
  const isWhole = [at, at + 183 * 86400000].every((one) => offsetMinutes(zone, one) % 60 === 0);
  return isWhole ? "1h" : "15m";
}

function offsetMinutes(zone, at) {
  const parts = new Intl.DateTimeFormat("en-US", { timeZone: zone, timeZoneName: "longOffset" }).formatToParts(at);
  const match = /GMT([+-])(\d\d):(\d\d)/.exec(parts.find((part) => part.type === "timeZoneName").value);
  return match ? (match[1] === "-" ? -1 : 1) * (Number(match[2]) * 60 + Number(match[3])) : 0;
}

function refusalOf(plan) {
  const ends = ["first", "last", "ohlc"].includes(plan.aggregation);
  if (plan.entry.is_carried && plan.aggregation === "last" && plan.groupBy.join(",") !== plan.dimensionSet) {
    return "last values are carried forward and added up by the API; grouped by all its dimensions they are in SQL.";
  }
  if (plan.isState && (plan.isAddedUp || plan.isComposed || plan.isTop)) {
    return "this comes of merged states, which the API merges and SQL cannot.";
  }
  if (/^p[0-9]/.test(plan.aggregation) && !plan.isState) return "SQL has p50, p95 and p99; others are the API's.";
  if (plan.isTop && ends) return "the API alone ranks by first and last values.";
  return null;
}

function withParts(plan) {
  const names = plan.groupBy.map(identifier);
  const parts = [`WITH points AS (\n${indented(grouped(plan, plan.isTop))}\n)`];
  const select = ["points.time_bucket", ...names.map((name) => `points.${name}`), ...columnsOf(plan).map((one) => `points.${one}`)];
  if (!plan.compare) return `${parts[0]}\nSELECT ${select.join(", ")}\nFROM points\nORDER BY ${ordinals(plan)};`;
  const same = names.map((name) => `\n    AND earlier.${name} IS NOT DISTINCT FROM points.${name}`).join("");
  return [
    parts[0],
    `SELECT ${select.join(", ")}, earlier.${columnsOf(plan).at(-1)} AS compared`,
    `FROM points\nLEFT JOIN points AS earlier ON earlier.time_bucket = ${earlierOf(plan, "points.time_bucket")}${same}`,
    `WHERE points.time_bucket >= ${literal(isoOf(plan.start))}`,
    `ORDER BY ${ordinals(plan)};`,
  ].join("\n");
}

/** One row per bucket and series. */
function grouped(plan, isTop = false) {
  const names = plan.groupBy.map((name) => `${isTop ? named(plan, name) : `dimensions ->> ${literal(name)}`} AS ${identifier(name)}`);
  const values = valuesOf(plan);
  const columns = [`${bucketOf(plan)} AS time_bucket`, ...names, ...Object.entries(values).map(([name, text]) => `${text} AS ${name}`)];
  const groups = columns.slice(0, 1 + names.length).map((_, place) => place + 1);
  const from = isTop ? `${plan.source}\nLEFT JOIN (\n${indented(ranking(plan))}\n) AS top ON top.dimensions = ${plan.source}.dimensions` : plan.source;
  const where = conditions(plan, isTop ? `${plan.source}.` : "");
  return [
    `SELECT\n${indented(columns.join(",\n"))}`,
    `FROM ${from}`,
    `WHERE ${where.join("\n    AND ")}`,
    ...(plan.isState ? [] : [`GROUP BY ${groups.join(", ")}`]),
  ].join("\n");
}

function named(plan, name) {
  return `CASE WHEN top.dimensions IS NULL THEN ${literal(OTHER)} ELSE ${plan.source}.dimensions ->> ${literal(name)} END`;
}

function ranking(plan) {
  const rest = plan.groupBy.map((name) => `dimensions ->> ${literal(name)} = ${literal(OTHER)}`).join(" AND ");
  const value = sumsOf(plan.aggregation === "rate" ? (isRateOfSum(plan.entry) ? "sum" : "count") : plan.aggregation);
  return [
    "SELECT dimensions",
    `FROM ${plan.source}`,
    `WHERE ${[...conditions({ ...plan, compare: "" }), `(${rest}) IS NOT TRUE`].join("\n    AND ")}`,
    `GROUP BY dimensions\nORDER BY ${value} DESC NULLS LAST, dimensions::text COLLATE "C"\nLIMIT ${plan.top}`,
  ].join("\n");
}

function columnsOf(plan) {
  return Object.keys(valuesOf(plan));
}

function valuesOf(plan) {
  const { aggregation, isComposed } = plan;
  const end = (name) => {
    if (!isComposed) return `max(${name})`;
    const order = name === "first" ? "time_bucket" : "time_bucket DESC";
    return `(array_agg(${name} ORDER BY ${order}) FILTER (WHERE ${name} IS NOT NULL))[1]`;
  };
  switch (aggregation) {
    case "ohlc":
      return { open: end("first"), high: "max(max)", low: "min(min)", close: end("last") };
    case "first":
    case "last":
      return { value: end(aggregation) };
    case "distinct":
      return { value: "distinct_count" };
    case "rate":
      return { value: `${sumsOf(isRateOfSum(plan.entry) ? "sum" : "count")} / ${secondsText(plan)}` };
    default:
      return { value: plan.isState ? aggregation : sumsOf(aggregation) };
  }
}

function sumsOf(aggregation) {
  switch (aggregation) {
    case "count":
    case "skipped":
      return "sum(count)";
    case "avg":
    case "ratio":
      return "sum(sum) / nullif(sum(count), 0)";
    default:
      return `${aggregation}(${aggregation})`;
  }
}

function secondsText(plan) {
  if (plan.interval !== "1d" || plan.zone === "UTC") return `${widthOf(plan.interval) / 1000}.0`;
  const zone = literal(plan.zone);
  const local = `(date_trunc('day', min(time_bucket) AT TIME ZONE ${zone}))`;
  return `extract(epoch FROM (${local} + interval '1 day') AT TIME ZONE ${zone} - ${local} AT TIME ZONE ${zone})`;
}

function bucketOf(plan) {
  if (!plan.isComposed) return plan.isTop ? `${plan.source}.time_bucket` : "time_bucket";
  return `date_trunc(${literal(plan.interval === "1d" ? "day" : "hour")}, time_bucket, ${literal(plan.zone)})`;
}

function conditions(plan, prefix = "") {
  const column = (name) => prefix + name;
  const isFamily = plan.entry.name_by && !plan.entry.family && plan.dimensionSet;
  return [
    isFamily
      ? `starts_with(${column("metric_name")}, ${literal(`${plan.name}.`)})`
      : `${column("metric_name")} = ${literal(plan.name)}`,
    `${column("interval")} = ${literal(plan.level)}`,
    `${column("dimension_set")} = ${literal(plan.dimensionSet)}`,
    ...rangeConditions(plan, column("time_bucket")),
    ...plan.filters.map((filter) => filterCondition(filter, column("dimensions"))),
  ];
}

function rangeConditions(plan, column) {
  const start = plan.start === null ? `now() - interval ${literal(intervalText(plan.last))}` : literal(isoOf(plan.start));
  const end = plan.end === null ? "now()" : literal(isoOf(plan.end));
  const from = plan.compare ? earlierOf(plan, `timestamptz ${start}`) : start;
  if (!plan.isComposed) return [`${column} >= ${from}`, `${column} < ${end}`];
  const bucket = bucketOf(plan).replace("time_bucket", column);
  return [`${column} >= ${from}`, `${bucket} >= ${from}`, `${bucket} < ${end}`];
}

/** The bucket that one is compared with. */
function earlierOf(plan, at) {
  if (plan.compare !== "previous") return shifted(plan, at, plan.compare === "7d" ? 7 : 1);
  const width = widthOf(plan.interval);
  if (plan.interval === "1d" && plan.zone !== "UTC") {
    return shifted(plan, at, daysBetween(plan));
  }
  const count = Math.ceil(plan.end / width) - Math.ceil(plan.start / width);
  return `${at} - interval '${(count * width) / 1000} seconds'`;
}

function daysBetween(plan) {
  const day = new Intl.DateTimeFormat("en-CA", { timeZone: plan.zone });
  const first = firstDay(plan.start, plan.zone, day);
  const last = firstDay(plan.end, plan.zone, day);
  return Math.round((last - first) / 86400000);
}

/** The first day that begins at or after a time, as UTC midnight of its date. */
function firstDay(at, zone, day) {
  const date = Date.parse(day.format(at));
  const begins = day.format(at - 1) !== day.format(at);
  return begins ? date : date + 86400000;
}

/** The same time of the zone's clock, days before. */
function shifted(plan, at, days) {
  if (plan.zone === "UTC") return `${at} - interval '${days * 24} hours'`;
  const zone = literal(plan.zone);
  return `((${at}) AT TIME ZONE ${zone} - interval '${days} days') AT TIME ZONE ${zone}`;
}

function filterCondition({ name, operator, values }, column) {
  const found = `${column} ->> ${literal(name)}`;
  const texts = values.filter((value) => value !== null).map(literal);
  const hasNull = values.includes(null);
  switch (operator) {
    case "exists":
      return `${found} IS ${values[0] === "true" ? "NOT NULL" : "NULL"}`;
    case "prefix":
      return `starts_with(${found}, ${texts[0]})`;
    case "ne":
      return hasNull ? `${found} IS NOT NULL` : `${found} <> ${texts[0]}`;
    default: {
      const within = texts.length ? `${found} IN (${texts.join(", ")})` : "false";
      return hasNull ? `(${within} OR ${found} IS NULL)` : within;
    }
  }
}

function ordinals(plan) {
  return [1, ...plan.groupBy.map((_, place) => place + 2)].join(", ");
}

function intervalText(last) {
  const units = { s: "seconds", m: "minutes", h: "hours", d: "days", w: "weeks" };
  return `${last.slice(0, -1)} ${units[last.at(-1)]}`;
}

function identifier(name) {
  return /^[a-z_]+$/.test(name) ? name : `"${name.replaceAll('"', '""')}"`;
}

function indented(text) {
  return text.replace(/^/gm, "    ");
}
