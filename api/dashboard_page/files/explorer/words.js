// What a bucket says of itself and of its values, as words: for the card under the pointer, for readers, for the table.
//
// Belongs here: texts. Does not belong here: elements (`panel`, `table`).

import { exact, number, NOTHING } from "../format.js";
import { unitOf } from "./catalog.js";
import { bucketText, momentText, offsetText } from "./ticks.js";

export const STATES = {
  open: "open: not over yet",
  settling: "settling: over, and not final yet",
  final: "final",
  restated: "restated: changed after it was final",
};
export const MARKS = {
  open: "open, not over yet",
  settling: "settling, not final yet",
  restated: "restated after it was final",
  late: "holds late events",
  incomplete: "events are missing until a backfill",
  predecessor: "from an earlier definition",
};
export const AGGREGATIONS = {
  count: "count", sum: "sum", avg: "average", min: "minimum", max: "maximum", p50: "median (p50)", p95: "p95", p99: "p99",
  rate: "rate per second", distinct: "distinct values", ratio: "ratio", first: "first value", last: "last value",
  ohlc: "open, high, low, close", skipped: "skipped, not a number",
};
export const COMPARED = { previous: "the period before", "1d": "a day before", "7d": "7 days before" };

/** What is marked of a bucket: the most telling of what it is, or null. */
export function markOf(bucket) {
  if (bucket.incomplete) return "incomplete";
  if (bucket.state === "restated") return "restated";
  if (bucket.state === "open" || bucket.state === "settling") return bucket.state;
  if (bucket.late) return "late";
  return bucket.predecessor ? "predecessor" : null;
}

/** A value with its unit. */
function valueText(value, entry, aggregation) {
  if (value === null || value === undefined) return NOTHING;
  const unit = unitOf(entry, aggregation);
  const text = number(value, unit);
  return ["", "percent", "ms", "s", "bytes"].includes(unit) ? text : `${text} ${unit}`;
}

/** How far values of a result may be off, or null where they are exact. */
function errorText({ precision, relative_error: error }) {
  const percent = `${number(100 * error)} %`;
  if (precision === "bounded") return `off by at most ${percent}`;
  return precision === "estimated" ? `an estimate, ± ${percent} (1σ)` : null;
}

/** The sign, the amount and the percentage of a change; null where nothing is compared. */
export function changeText(point, entry, aggregation) {
  if (point.compared === undefined) return null;
  if (point.change === null || point.change === undefined) return "nothing to compare with";
  const sign = point.change > 0 ? "▲" : point.change < 0 ? "▼" : "=";
  const share = point.change_percent === null ? "" : ` (${signed(point.change_percent)} %)`;
  return `${sign} ${valueText(Math.abs(point.change), entry, aggregation)}${share}`;
}

function signed(percent) {
  return `${percent > 0 ? "+" : percent < 0 ? "−" : ""}${number(Math.abs(percent))}`;
}

/**
 * All that is told of a bucket.
 *
 * @param bucket of `bucketsOf`; @param until where it ends, ms; @param restatements of the feed, of this bucket.
 * @returns `{title, state, notes, rows}`; a row is `{series, point, label, value, details}`.
 */
export function toldOf(bucket, until, series, { zone, interval, compare, entryFor, restatements = [] }) {
  const rows = series.flatMap((one) => {
    const point = one.at.get(bucket.at);
    if (!point) return [];
    const entry = entryFor(one.metric);
    const { aggregation } = one.result;
    const change = changeText(point, entry, aggregation);
    const details = [
      aggregation === "ohlc" && point.close !== undefined && `open ${number(point.open)}, high ${number(point.high)}, low ${number(point.low)}`,
      point.filled && "filled in",
      typeof point.count === "number" && !(aggregation === "count" && point.count === point.value) && `${eventsText(point.count)}`,
      point.unbounded ? "not within its usual error: the true value is no larger" : errorText(one.result),
      change && `${change} against ${COMPARED[compare]}`,
    ].filter(Boolean);
    return [{ series: one, point, label: one.label, value: valueText(point.value, entry, aggregation), details }];
  });
  const notes = [
    bucket.pending && "Holds events that no merge has seen yet; they are counted.",
    bucket.late && `${eventsText(bucket.late)} of any type came late, after their minute and the grace.`,
    bucket.incomplete && "Events are missing until a backfill has read them.",
    bucket.predecessor && "From an earlier definition of the metric.",
    ...restatements.map((one) => restatementText(one, zone)),
  ].filter(Boolean);
  const isDay = interval === "1d";
  return {
    title: `${bucketText(bucket.at, until, zone, isDay)} ${offsetText(zone, bucket.at)}`,
    state: `${STATES[bucket.state] ?? "nothing has landed in it"}${bucket.revision ? `, revision ${bucket.revision}` : ""}`,
    notes,
    rows,
  };
}

const eventsText = (count) => `${exact(count)} ${count === 1 ? "event" : "events"}`;

function restatementText({ restated_at: at, reason, old: before, new: after, metric_name: name }, zone) {
  const of = (total) => (total === null ? "nothing" : eventsText(total.count));
  const sums = before?.sum != null && after?.sum != null && before.sum !== after.sum ? `, sum ${number(before.sum)} → ${number(after.sum)}` : "";
  return `Restated ${momentText(Date.parse(at), zone)} (${reason}): ${name} ${of(before)} → ${of(after)}${sums}.`;
}

/** The same in one sentence, for screen readers; at most so many values. */
export function sentenceOf(told, most = 5) {
  const values = told.rows.slice(0, most).map(({ label, value, details }) => `${label}: ${[value, ...details].join(", ")}`);
  const more = told.rows.length > most ? [`and ${told.rows.length - most} more`] : [];
  return [told.title, told.state, ...values, ...more, ...told.notes].join("; ");
}

/** What a whole chart shows, in one sentence. */
export function summaryOf(series, buckets, entryFor) {
  const said = series.slice(0, 5).map((one) => {
    const values = one.points.map((point) => point.value).filter((value) => value !== null);
    if (!values.length) return `${one.label}: no values`;
    const entry = entryFor(one.metric);
    const text = (value) => valueText(value, entry, one.result.aggregation);
    const [low, high] = values.reduce(([least, most], value) => [Math.min(least, value), Math.max(most, value)], [values[0], values[0]]);
    return `${one.label}: from ${text(low)} to ${text(high)}, last ${text(values.at(-1))}`;
  });
  const more = series.length > 5 ? ` And ${series.length - 5} more series.` : "";
  return `${buckets.length} buckets. ${said.join(". ")}.${more} The table below has all values.`;
}

