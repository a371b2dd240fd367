// The values as a table, sortable, and as CSV: all that the chart shows, for those who read or count.
//
// Belongs here: rows, order, cells. Does not belong here: words of single values (`words`).

import { h } from "../dom.js";
import { exact, number as shortNumber, NOTHING, wall } from "../format.js";
import { unitOf } from "./catalog.js";

const FIRST = 100;
const ENDS = ["open", "high", "low", "close"];
const COMPARED = [["compared", "Compared"], ["change", "Change"]];

/** The columns that these series have: `{id, title, isNumber, of(row)}`. */
export function columnsOf(series, { zone, entryFor }) {
  const names = [...new Set(series.flatMap((one) => Object.keys(one.dimensions)))];
  const metrics = new Set(series.map((one) => one.metric));
  const units = new Set(series.map((one) => unitOf(entryFor(one.metric), one.result.aggregation)));
  const first = series[0]?.points[0] ?? {};
  const unit = units.size === 1 && [...units][0] ? `, ${[...units][0]}` : "";
  const number = (id, title) => ({ id, title, isNumber: true, of: ({ point }) => point[id] ?? null });
  return [
    { id: "time", title: `Time, ${zone}`, of: ({ point }) => point.at, text: (at) => wall(at, zone) },
    ...(metrics.size > 1 ? [{ id: "metric", title: "Metric", of: (row) => row.series.metric }] : []),
    ...names.map((name) => ({ id: name, title: name, of: (row) => row.series.dimensions[name] ?? null })),
    number("value", `Value${unit}`),
    ...("close" in first ? ENDS.map((id) => number(id, id[0].toUpperCase() + id.slice(1))) : []),
    ...("compared" in first ? [...COMPARED.map(([id, title]) => number(id, title)), { ...number("change_percent", "Change, %"), text: shortNumber }] : []),
    ...("count" in first ? [number("count", "Events")] : []),
    { id: "state", title: "State", of: ({ point }) => point.state ?? null },
    number("revision", "Revision"),
  ];
}

/** Rows in an order, `name:asc` or `name:desc`; the newest first where none is named. */
function rowsOf(series, columns, sort) {
  const rows = series.flatMap((one) => one.points.map((point) => ({ series: one, point })));
  const [id, way] = sort ? sort.split(":") : ["time", "desc"];
  const column = columns.find((one) => one.id === id) ?? columns[0];
  const sign = way === "desc" ? -1 : 1;
  return rows.sort((one, other) => {
    const [a, b] = [column.of(one), column.of(other)];
    if (a === null || b === null) return (a === null) - (b === null); // what is not there comes last, either way
    return sign * (a < b ? -1 : a > b ? 1 : 0) || other.point.at - one.point.at;
  });
}

/** CSV of rows, times in UTC. */
export function csvOf(series, columns) {
  const rows = rowsOf(series, columns, "time:asc");
  const cell = (value) => (value === null ? "" : /[",\r\n]/.test(String(value)) ? `"${String(value).replaceAll('"', '""')}"` : String(value));
  const names = columns.map((column) => (column.id === "time" ? "timestamp" : column.id));
  const lines = rows.map((row) => columns.map((column) => cell(column.id === "time" ? row.point.timestamp : column.of(row))).join(","));
  return `${[names.join(","), ...lines].join("\r\n")}\r\n`;
}

/** The table; `onSort(sort)` is called by its headings, `onAll()` by the button that shows every row. */
export function tableOf(series, columns, { sort, isWhole, onSort, onAll }) {
  const rows = rowsOf(series, columns, sort);
  const [id, way] = sort ? sort.split(":") : ["time", "desc"];
  const heads = columns.map((column) => {
    const isSorted = column.id === id;
    const next = isSorted && way === "desc" ? "asc" : isSorted ? "desc" : column.isNumber || column.id === "time" ? "desc" : "asc";
    const sign = !isSorted ? "" : way === "desc" ? " ↓" : " ↑";
    const sorted = !isSorted ? "none" : way === "desc" ? "descending" : "ascending";
    return h("th", { scope: "col", class: column.isNumber ? "end" : null, "aria-sort": sorted },
      h("button", { type: "button", class: "ex-sort", id: `ex-sort-${column.id}`, onclick: () => onSort(`${column.id}:${next}`) },
        column.title, h("span", { "aria-hidden": "true" }, sign)));
  });
  const shown = isWhole ? rows : rows.slice(0, FIRST);
  const body = shown.map((row) => h("tr", { "data-state": row.point.state }, columns.map((column) => cellOf(column, row))));
  return h("div", {},
    h("div", { class: "scroll ex-table", tabindex: "0", role: "region", "aria-label": "Values" },
      h("table", {}, h("thead", {}, h("tr", {}, heads)), h("tbody", {}, body))),
    rows.length > shown.length && h("p", { class: "ex-more" }, h("button", { type: "button", onclick: onAll }, `Show all ${exact(rows.length)} rows`)));
}

function cellOf(column, row) {
  const value = column.of(row);
  if (column.id === "state") return h("td", {}, value ? h("span", { class: `badge ${{ restated: "warn", open: "open" }[value] ?? ""}` }, value) : NOTHING);
  const text = column.text ? column.text(value) : column.isNumber ? exact(value) : (value ?? `no ${column.title}`);
  return h("td", { class: column.isNumber ? "end" : null }, text);
}
