// What the explorer looks up beside its answer: names of metrics, values of dimensions, restatements, where there is data.
//
// Belongs here: reads of discovery and of the feed. Does not belong here: the question's own answer (`views/explorer`).

import { isoOf, rangeOf, requestParams } from "./question.js";
import { isRest } from "./series.js";

const MOST_VALUES = 50;
const MOST_DAYS = 31;
const DAY = 86400000;
const FOREVER = "3650d";

/** Metrics that have a text in name or description; of families, such as events by type, the members as well. */
export async function findNames(api, catalog, text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  const fits = (...texts) => words.every((word) => texts.join(" ").toLowerCase().includes(word));
  const own = catalog.filter((entry) => fits(entry.name, entry.description)).map((entry) => ({
    value: entry.name, title: entry.name, note: `${entry.description}${entry.unit === "1" ? "" : ` In ${entry.unit}.`}` }));
  const families = await Promise.all(catalog.filter((entry) => entry.name_by).map((entry) => members(api, entry)));
  const found = families.flat().filter((one) => words.length > 0 && fits(one.value, one.note));
  return [...own, ...found];
}

async function members(api, entry) {
  try {
    const found = await api.get(`/api/v1/dimensions/${entry.name_by}/values`, { metric_name: entry.name, limit: 500 });
    const names = found.values.filter((value) => value !== null);
    return names.map((value) => ({ value: `${entry.name}.${value}`, title: `${entry.name}.${value}`, note: `Of ${entry.name}: ${value} alone.` }));
  } catch {
    return []; // a key that sees other events: the metrics themselves are still there
  }
}

/** Values that a dimension had in the question's range, of its first metric, that begin with a text. */
export async function findValues(api, question, dimension, prefix) {
  const [start, end] = rangeOf(question, Date.now());
  const found = await api.get(`/api/v1/dimensions/${dimension}/values`, {
    metric_name: question.metrics[0], prefix, limit: MOST_VALUES, start_time: isoOf(Math.max(start, end - MOST_DAYS * DAY)), end_time: isoOf(end) });
  return found.values;
}

/** The newest UTC day on which the first metric of a question has a value, in ms; null for none. */
export async function newestDay(api, question, signal) {
  const { dimension = [], group_by: groups = "", aggregation = "" } = requestParams(question);
  const params = { metric_name: question.metrics[0], interval: "1d", last: FOREVER, order: "desc", limit: 1, dimension, group_by: groups, aggregation };
  try {
    const found = await api.get("/api/v1/metrics", params, { signal });
    return found.result.data_points.length ? Date.parse(found.result.data_points[0].timestamp) : null;
  } catch {
    return null; // what is asked for cannot be had by days: then nothing is offered
  }
}

/** The feed's lines about the restated buckets of some series, newest first; it knows totals alone. */
export async function restatementsOf(api, series, signal) {
  const metrics = new Map();
  for (const one of series) {
    const restated = one.points.filter((point) => point.state === "restated").map((point) => point.at);
    if (!restated.length || isRest(one)) continue;
    const known = metrics.get(one.metric) ?? { interval: one.result.interval, from: Infinity, until: -Infinity };
    metrics.set(one.metric, { ...known, from: Math.min(known.from, ...restated), until: Math.max(known.until, ...restated) });
  }
  const found = await Promise.all([...metrics].map(([name, { interval, from, until }]) => read(api, {
    metric_name: name, interval, start_time: isoOf(from), end_time: isoOf(until + 1000), limit: 200 }, signal)));
  return found.flat();
}

async function read(api, params, signal) {
  try {
    return (await api.get("/api/v1/restatements", params, { signal })).restatements;
  } catch {
    return []; // a key that sees a part of the events has no feed; the buckets are marked all the same
  }
}
