// What the views of operators are made of: panels, tables that become lists on a narrow screen, badges, moments.

import { h, swap } from "../dom.js";
import * as format from "../format.js";

/** A word with a colour: good, warn, bad or none. The word says it all, the colour only repeats it. */
export const badge = (text, kind = "", title = null) => h("span", { class: `badge ${kind}`, title }, text);

/** A card with a heading; `tools` stand at its right. */
export function panel(title, { id, tools = [], note = null, isWide = false } = {}, ...children) {
  return h("section", { class: `card${isWide ? " wide" : ""}`, "aria-labelledby": id },
    h("header", {}, h("h2", { id }, title), note && h("span", { class: "quiet" }, note), h("span", { class: "tools" }, tools)),
    children);
}

/**
 * A table. Columns are {title, cell(row), end, isHeader, isLong}; a row gets the attributes that `attributes(row)` says.
 * On a narrow screen each row becomes a list of its cells with their titles, and is still a table to readers.
 */
export function table(label, columns, rows, attributes = () => ({})) {
  const head = h("tr", { role: "row" }, columns.map((one) =>
    h("th", { scope: "col", role: "columnheader", class: one.end ? "end" : null }, one.title)));
  const body = rows.map((row) => h("tr", { role: "row", ...attributes(row) }, columns.map((one) =>
    h(one.isHeader ? "th" : "td", {
      role: one.isHeader ? "rowheader" : "cell", scope: one.isHeader ? "row" : null, class: [one.end && "end", one.isLong && "long"].filter(Boolean).join(" ") || null, "data-label": one.title,
    }, h("span", { class: "cell" }, one.cell(row))))));
  // A group, not a region: the card around it is one already, often of the same name.
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label },
    h("table", { class: "stacked", role: "table", "aria-label": label }, h("thead", { role: "rowgroup" }, head), h("tbody", { role: "rowgroup" }, body)));
}

/** Say what a heading says now, if it says something else than before: readers hear of what changes while they wait. */
export function announcer(context, select) {
  let before = null;
  return (root) => {
    const text = root.querySelector(select)?.textContent ?? "";
    if (before !== null && text !== before) context.announce(text);
    before = text;
  };
}

/** A moment, with its milliseconds in the title. */
export function moment(at, zone) {
  if (!at) return format.NOTHING;
  return h("time", { datetime: at, title: `${format.exactTime(at, zone)} ${zone}` }, format.time(at, zone));
}

/** How long ago a moment was, `12 s ago`. */
export function ago(at, now, zone) {
  if (!at) return format.NOTHING;
  const seconds = (now - Date.parse(at)) / 1000;
  return h("time", { datetime: at, title: `${format.exactTime(at, zone)} ${zone}` }, seconds < 1 ? "just now" : `${format.duration(seconds)} ago`);
}

/** Choices of which one holds, as buttons: pairs of value and text. */
export function segments(id, label, choices, chosen, onchosen) {
  return h("div", { class: "field" }, h("span", { class: "label", id: `${id}-label` }, label),
    h("div", { class: "segments", role: "group", "aria-labelledby": `${id}-label` },
      choices.map(([value, text]) => h("button", { type: "button", id: `${id}-${value}`, "aria-pressed": String(value === chosen), onclick: () => onchosen(value) }, text))));
}

/** Messages a second: no more digits than anybody reads. */
export const rate = (value) => format.number(value >= 100 ? Math.round(value) : value >= 10 ? Math.round(10 * value) / 10 : value);

export const PERIODS = [["1h", "1 h"], ["6h", "6 h"], ["24h", "24 h"], ["7d", "7 d"]];
const SECONDS = { h: 3600, d: 86400 };

/** The moment a period ago, to the second. */
export function since(period, now = Date.now()) {
  const [, count, unit] = /^(\d+)([hd])$/.exec(period) ?? [null, "24", "h"];
  return new Date(Math.floor(now / 1000 - count * SECONDS[unit]) * 1000).toISOString().replace(".000Z", "Z");
}

/** A period as SQL's interval. */
export function interval(period) {
  const [, count, unit] = /^(\d+)([hd])$/.exec(period) ?? [null, "24", "h"];
  return `interval '${count} ${unit === "d" ? "days" : "hours"}'`;
}

/** A number of things in words: `1 gap`, `2 gaps`. */
export const counted = (count, one, several = `${one}s`) => `${format.exact(count)} ${count === 1 ? one : several}`;

/** The place of a failure above what was shown before it; `error` null: none. */
export function troubles(element, error) {
  swap(element, error && h("p", { class: "trouble", role: "alert" },
    h("strong", {}, "Not up to date. "), error.message, error.status === 403 ? "" : " What stands below is what was known before."));
}
