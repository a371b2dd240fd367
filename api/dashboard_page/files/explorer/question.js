// What the explorer is asked: one question, as an address says it and as the API takes it.
//
// Belongs here: reading and writing addresses, filters as text. Does not belong here: which settings a metric allows
// (`catalog`), controls (`controls`), answers (`series`).
//
// Names and values in an address are those of `/api/v1/metrics`; `chart`, `live`, `sort` and `hide` are the page's own, and `zone` is what all views
// share: the router reads `time_zone` as that. What of an address is not shown, `remarks` says.

import { entryOf } from "./catalog.js";

export const RANGES = ["15m", "1h", "24h", "7d", "30d"];
export const INTERVALS = ["auto", "1m", "5m", "15m", "1h", "1d"];
export const COMPARISONS = ["previous", "1d", "7d"];
export const CHARTS = ["line", "area", "bar"];

/** Parameters of the API that are short for a filter: `symbol=BTCUSDT`, `symbol=ne:BTCUSDT`. */
export const SHORT_FILTERS = ["event_type", "symbol", "strategy_id", "account_id", "asset", "severity"];

const SECONDS = { s: 1, m: 60, h: 3600, d: 86400, w: 604800 };
const DEFAULTS = { interval: "auto", fill: "none", chart: "line", last: "24h", live: "1" };
const PLAIN_TEXT = /^[A-Za-z_][A-Za-z0-9_.-]*$/;
const NO_TEXT = new Set(["null", "true", "false"]);
const HAS_OPERATOR = /^(eq|ne|gt|gte|lt|lte|in|prefix|exists):/;
const OTHER_SPELLINGS = { bars: "bar" };

/** What a name has in an address: its texts, empty ones left out. */
export const textsOf = (params, name) => [params[name] ?? []].flat().filter(Boolean);

/** How an address spells the chart, in the page's own way; it may be none. */
export const chartOf = (params) => OTHER_SPELLINGS[textsOf(params, "chart").at(-1)] ?? textsOf(params, "chart").at(-1) ?? DEFAULTS.chart;

/**
 * The question of an address. What is wrong in it stays as it is: the API says why.
 *
 * @param params its settings: texts, or lists of texts where a name repeats.
 * @param {string} zone in which days begin and times are shown.
 * @param catalog entries of the catalog, by which names with commas between are told apart.
 */
export function readQuestion(params, zone, catalog) {
  const all = (name) => textsOf(params, name);
  const text = (name) => all(name).at(-1) ?? "";
  const isFixed = Boolean(text("start_time") || text("end_time"));
  const chart = chartOf(params);
  return {
    metrics: [...new Set(all("metric_name").flatMap((names) => namesOf(names, catalog)))],
    interval: text("interval") || DEFAULTS.interval,
    mostPoints: text("max_points"),
    last: text("last") || (isFixed ? "" : DEFAULTS.last),
    start: text("start_time"),
    end: text("end_time"),
    aggregation: text("aggregation"),
    groupBy: text("group_by").split(",").filter(Boolean).sort(),
    filters: filtersOf(all),
    top: text("top"),
    fill: text("fill") || DEFAULTS.fill,
    compare: text("compare"),
    zone,
    chart: CHARTS.includes(chart) ? chart : DEFAULTS.chart,
    live: text("live") !== "0" && !text("end_time"),
    sort: text("sort") || (text("order") === "asc" ? "time:asc" : ""),
    hide: all("hide"),
  };
}

/** Names of metrics with commas between, as the API reads them: a comma inside an event type is none of these. */
function namesOf(text, catalog) {
  const [first, ...rest] = text.split(",");
  const names = [first];
  for (const part of rest) {
    if (catalog.some(({ name }) => name === names.at(-1)) || entryOf(catalog, part)) names.push(part);
    else names.push(`${names.pop()},${part}`);
  }
  return names.filter(Boolean);
}

/** The filters of an address, long and short, each once. */
function filtersOf(all) {
  const short = SHORT_FILTERS.flatMap((name) => all(name).map((text) => `${name}:${HAS_OPERATOR.test(text) ? "" : "eq:"}${text}`));
  const found = new Map([...all("dimension"), ...short].map((text) => {
    const filter = readFilter(text) ?? { name: "", operator: "", values: [], text };
    return [writeFilter(filter), filter];
  }));
  return [...found.values()];
}

/** The names of the settings of a question in an address; what else stands there, the page does not read. */
export const SETTINGS = [
  "metric_name", "interval", "max_points", "last", "start_time", "end_time", "aggregation", "group_by", "dimension", "top", "fill", "compare",
  "chart", "live", "sort", "hide",
];

/** The settings of a question as they stand in an address, by name; null for what is as it is anyway. */
export function writeQuestion(question) {
  const found = Object.fromEntries(SETTINGS.map((name) => [name, null]));
  const { time_zone: zone, ...asked } = requestParams(question);
  const { chart, sort, hide } = question;
  for (const [name, value] of Object.entries({ ...asked, chart, sort, hide, live: question.live || question.end ? "1" : "0" })) {
    if (value.length && value !== DEFAULTS[name]) found[name] = value;
  }
  return found;
}

/** The parameters of `/api/v1/metrics`, by name. */
export function requestParams(question) {
  const found = {
    metric_name: question.metrics,
    interval: question.interval,
    max_points: question.mostPoints,
    last: question.last,
    start_time: question.start,
    end_time: question.end,
    aggregation: question.aggregation,
    group_by: question.groupBy.join(","),
    dimension: question.filters.map(writeFilter),
    top: question.top,
    fill: question.fill === "none" ? "" : question.fill,
    time_zone: question.zone,
    compare: question.compare,
  };
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value.length));
}

/** How long `15m`, `24h`, `7d` are, in seconds; 0 for what is no such text. */
export function secondsOf(text) {
  const match = /^([1-9][0-9]{0,6})([smhdw])$/.exec(text);
  return match ? Number(match[1]) * SECONDS[match[2]] : 0;
}

/** Start and end of a question in ms; the end is now where none is named. */
export function rangeOf(question, now) {
  const end = question.end ? Date.parse(question.end) : now;
  if (question.last) return [end - secondsOf(question.last) * 1000, end];
  return [question.start ? Date.parse(question.start) : Math.min(end, now) - 86400000, end];
}

/** The same question about another range. */
export function withRange(question, start, end) {
  return { ...question, last: "", start: isoOf(start), end: isoOf(end) };
}

/** RFC 3339 in UTC, without milliseconds where there are none. */
export function isoOf(at) {
  return new Date(at).toISOString().replace(".000Z", "Z");
}

/**
 * A filter of its text, `name:operator:value`, or null for what is none. `values` are texts, null for none. In a question,
 * what is none is there as its `text`, and the API says what is wrong with it.
 */
export function readFilter(text) {
  const match = /^([a-z_]+):(eq|ne|in|prefix|exists):([^]*)$/.exec(text);
  if (!match) return null;
  const [, name, operator, value] = match;
  if (operator === "prefix" || operator === "exists") return { name, operator, values: [value] };
  const texts = operator === "in" ? value.split(",") : [value];
  return { name, operator, values: texts.map(readValue) };
}

/** A filter as the API reads it. */
function writeFilter({ name, operator, values, text }) {
  if (text) return text;
  const raw = operator === "prefix" || operator === "exists";
  return `${name}:${operator}:${raw ? values[0] : values.map(writeValue).join(",")}`;
}

function readValue(text) {
  if (text === "null") return null;
  if (text.length > 1 && text.startsWith('"') && text.endsWith('"')) {
    try {
      return JSON.parse(text);
    } catch {
      return text;
    }
  }
  return text;
}

// Dimensions are text, so a text that looks like a number is written in quotes, and found all the same.
function writeValue(value) {
  if (value === null) return "null";
  return PLAIN_TEXT.test(value) && !NO_TEXT.has(value) ? value : JSON.stringify(value);
}
