// The settings of a question, as fields: what the catalog allows, and nothing else.
//
// Belongs here: fields and what they change. Does not belong here: rules (`catalog`), asking (`views/explorer`).

import { combobox } from "../combobox.js";
import { choiceField, h, textField } from "../dom.js";
import { commonAggregations, commonGroupings, entriesOf, takesQuantiles } from "./catalog.js";
import { filterFields } from "./filter_fields.js";
import { CHARTS, COMPARISONS, INTERVALS, rangeOf, RANGES, withRange } from "./question.js";
import { fieldOf, momentOfField } from "./ticks.js";
import { AGGREGATIONS, COMPARED } from "./words.js";

const MOST_METRICS = 20;
const USUAL_TOP = "8";
const QUANTILES = ["p90", "p99.9"];
export const INTERVAL_TEXTS = { auto: "auto", "1m": "1 minute", "5m": "5 minutes", "15m": "15 minutes", "1h": "1 hour", "1d": "1 day" };
const FILL_TEXTS = [["none", "leave a gap"], ["zero", "zero"], ["previous", "the value before"], ["null", "a row without a value"]];
const CHART_TEXTS = { line: "Line", area: "Area", bar: "Bars" };
const RANGE_TEXTS = { "15m": "15 min", "1h": "1 h", "24h": "24 h", "7d": "7 days", "30d": "30 days" };

/**
 * All fields of a question.
 *
 * @param catalog entries of the catalog.
 * @param state `{question, isCustom}`; `isCustom`: whether the form of a custom range is open.
 * @param acts `change(question)`, `names(text)`, `values(dimension, text)`, `custom(isOpen)`, and `adding`, `{name, operator}`
 *   of the filter that is being made.
 */
export function controls(catalog, state, acts) {
  const { question } = state;
  const [range, custom] = rangeFields(state, acts);
  return [
    h("div", { class: "ex-top" }, metricRow(question, acts), range),
    custom,
    h("div", { class: "ex-settings" }, ...settings(catalog, state, acts)),
    ...filterFields(catalog, question, acts),
  ].filter(Boolean);
}

function metricRow(question, acts) {
  const chips = question.metrics.map((name) => h("li", { class: "ex-chip" }, h("span", {}, name),
    h("button", { type: "button", class: "ex-remove", "aria-label": `Leave out ${name}`,
      onclick: () => acts.change({ ...question, metrics: question.metrics.filter((one) => one !== name) }) }, "×")));
  const add = (name) => acts.change({ ...question, metrics: [...new Set([...question.metrics, name])].slice(0, MOST_METRICS) });
  const only = (name) => acts.change({ ...question, metrics: [name], sort: "", hide: [] });
  const one = { id: "ex-metric", label: "Metric", find: acts.names, onchoose: only, isKept: true, placeholder: "Search metrics" };
  return h("div", { class: "ex-metrics" },
    question.metrics.length === 1
      ? combobox({ ...one, value: question.metrics[0] })
      : h("ul", { class: "ex-chips", "aria-label": "Metrics" }, chips),
    combobox({ id: "ex-add", label: "Beside it", find: acts.names, onchoose: add, placeholder: "Add another metric" }));
}

function settings(catalog, { question }, acts) {
  const entries = entriesOf(catalog, question);
  const set = (changes) => acts.change({ ...question, ...changes });
  const groupings = commonGroupings(entries);
  return [
    choice("ex-aggregation", "Aggregation", aggregationChoices(entries), question.aggregation, (aggregation) => set({ aggregation })),
    choice("ex-interval", "Interval", INTERVALS.map((one) => [one, INTERVAL_TEXTS[one]]), question.interval,
      (interval) => set({ interval, mostPoints: "" })),
    choice("ex-group", "Group by", groupChoices(entries, groupings), question.groupBy.join(","), (text) => {
      const groupBy = text.split(",").filter(Boolean);
      const canRest = entries.every((entry) => entry.has_total);
      set({ groupBy, top: groupBy.length && canRest ? question.top || USUAL_TOP : "", sort: "", hide: [] });
    }),
    question.groupBy.length > 0 && textField("ex-top", "Top", question.top, (top) => set({ top }),
      { type: "number", min: "1", max: "1000", placeholder: "all", inputmode: "numeric" }),
    choice("ex-compare", "Compare with", [["", "nothing"], ...COMPARISONS.map((one) => [one, COMPARED[one]])], question.compare,
      (compare) => set({ compare })),
    choice("ex-fill", "Empty buckets", FILL_TEXTS, question.fill, (fill) => set({ fill })),
    segments("Chart", CHARTS.map((one) => [one, CHART_TEXTS[one]]), question.chart, (chart) => set({ chart })),
  ].filter(Boolean);
}

function aggregationChoices(entries) {
  const text = (one) => AGGREGATIONS[one] ?? one;
  const defaults = [...new Set(entries.map((entry) => text(entry.default_aggregation)))];
  const known = commonAggregations(entries);
  if (takesQuantiles(entries)) known.push(...QUANTILES.filter((one) => !known.includes(one)));
  const isSame = new Set(entries.map((entry) => entry.default_aggregation)).size === 1;
  const others = known.filter((one) => !isSame || one !== entries[0].default_aggregation);
  const usual = defaults.length === 1 ? defaults[0] : defaults.length ? "each its own" : "…";
  return [["", usual], ...others.map((one) => [one, text(one)])];
}

/** A select that also has what the address says although it is no choice: the API says why it is none. */
function choice(id, label, choices, value, onchange) {
  const all = choices.some(([one]) => one === value) ? choices : [...choices, [value, value]];
  return choiceField(id, label, all, value, onchange);
}

function groupChoices(entries, groupings) {
  const none = entries.every((entry) => entry.has_total) || !groupings.length ? [["", "nothing"]] : [["", "one value (filter)"]];
  return [...none, ...groupings.map((one) => [one, one.replaceAll(",", ", ")])];
}

/** The choice of a range, and where it is a custom one its form. */
function rangeFields({ question, isCustom }, acts) {
  const chosen = question.last && !isCustom ? question.last : "custom";
  const known = RANGES.includes(question.last) || !question.last ? RANGES : [...RANGES, question.last];
  const choose = (last) => (last === "custom" ? acts.custom(true) : acts.change({ ...question, last, start: "", end: "" }));
  const range = segments("Range", [...known.map((one) => [one, RANGE_TEXTS[one] ?? one]), ["custom", "Custom"]], chosen, choose);
  return [range, chosen === "custom" && customRange(question, acts)];
}

function customRange(question, acts) {
  const { zone } = question;
  const [start, end] = rangeOf(question, Date.now());
  const from = dateField("ex-start", "From", fieldOf(start, zone));
  const until = dateField("ex-end", "To, not included", fieldOf(end, zone));
  const problem = h("p", { class: "form-error", role: "alert" });
  const apply = (event) => {
    event.preventDefault();
    const [begin, finish] = [from, until].map((field) => momentOfField(field.querySelector("input").value, zone));
    if (begin < finish) acts.change(withRange(question, begin, finish));
    else problem.textContent = "The range must end after it begins.";
  };
  return h("form", { class: "ex-custom", "aria-label": "Custom range", onsubmit: apply }, from, until,
    h("button", { type: "submit" }, "Apply"), h("span", { class: "quiet" }, zone), problem);
}

function dateField(id, label, value) {
  return h("div", { class: "field" }, h("label", { for: id }, label), h("input", { id, type: "datetime-local", value, required: true }));
}

function segments(label, choices, value, onchange) {
  const id = `ex-${label.toLowerCase()}`;
  const buttons = choices.map(([key, text]) =>
    h("button", { type: "button", id: `${id}-${key}`, "aria-pressed": String(key === value), onclick: () => onchange(key) }, text));
  return h("div", { class: "field" }, h("span", { class: "ex-legend", id }, label),
    h("div", { class: "segments", role: "group", "aria-labelledby": id }, buttons));
}
