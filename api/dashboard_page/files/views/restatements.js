// The feed of totals that changed after their bucket was final: what it was, what it is, and why.

import { choiceField, emptyState, errorState, h, swap, textField } from "../dom.js";
import * as format from "../format.js";
import { ago, badge, moment, panel, table, troubles } from "../operations/parts.js";
import { poll } from "../polling.js";
import { literal } from "../sql_text.js";

const PATH = "/api/v1/restatements";
const PAGE = 50;
const REASONS = { late: ["late events", "warn"], backfill: ["backfill", ""] };

export const view = {
  id: "restatements",
  title: "Restatements",
  render(root, params, context) {
    const asked = { metric_name: params.metric, interval: params.interval, reason: params.reason, cursor: params.cursor, limit: PAGE };
    const set = (name) => (value) => context.set({ [name]: value, cursor: null });
    const trouble = h("div", {});
    const body = h("div", {}, h("p", { class: "card quiet" }, "Reading …"));
    let isDrawn = false;
    root.append(h("div", { class: "toolbar" },
      textField("metric", "Metric", params.metric ?? "", set("metric"), { placeholder: "any" }),
      choiceField("interval", "Interval", [["", "any"], "1m", "5m", "15m", "1h", "1d"], params.interval ?? "", set("interval")),
      choiceField("reason", "Why", [["", "any reason"], ["late", "late events"], ["backfill", "backfill"]], params.reason ?? "", set("reason"))),
    trouble, body);
    const reading = poll((signal) => context.api.get(PATH, asked, { signal }), (found) => {
      isDrawn = true;
      swap(body, draw(found, asked, params, context));
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

function draw(found, asked, params, context) {
  const now = Date.now();
  const request = { method: "GET", path: PATH, params: { ...asked, cursor: null } };
  const isPart = params.metric || params.interval || params.reason;
  const columns = [
    { title: "Changed", isHeader: true, cell: (one) => ago(one.restated_at, now, context.zone) },
    { title: "Metric", cell: (one) => h("span", { class: "break" }, one.metric_name) },
    { title: "Bucket", cell: (one) => [moment(one.time_bucket, context.zone), h("span", { class: "quiet small block" }, one.interval)] },
    { title: "What changed", cell: changes },
    { title: "Why", cell: (one) => badge(...(REASONS[one.reason] ?? [one.reason, ""])) },
    { title: "Revision", end: true, cell: (one) => format.exact(one.revision) },
    { title: "Run", cell: (one) => h("code", { title: one.run_id }, one.run_id.slice(0, 12)) },
  ];
  return panel("What changed after it was final", { id: "restatements", note: "newest first", tools: context.showAs(() => ({ request, sql: sql(params) })) },
    found.restatements.length
      ? table("Restatements", columns, found.restatements, (one) => ({ "data-restatement": one.id }))
      : params.cursor ? emptyState("Nothing newer yet", "What changes from now on appears here.")
      : emptyState(isPart ? "Nothing that matches has changed" : "Nothing has changed after it was final", "No event came too late for its bucket, and no backfill found another number."),
    h("p", { class: "pager" },
      params.cursor && h("button", { type: "button", id: "newest", onclick: () => context.set({ cursor: null }) }, "Newest"),
      params.cursor && h("button", { type: "button", id: "newer", onclick: () => context.set({ cursor: found.previous_cursor }) }, "Newer"),
      found.next_cursor && h("button", { type: "button", id: "older", onclick: () => context.set({ cursor: found.next_cursor }) }, "Older")));
}

/** The aggregates that differ, each with its old and new value. */
function changes(one) {
  const names = ["count", "sum", "min", "max", "p50", "p95", "p99", "distinct_count"];
  if (one.old === null) return `new: count ${format.exact(one.new?.count)}`;
  if (one.new === null) return `gone: count was ${format.exact(one.old.count)}`;
  const found = names.filter((name) => one.old[name] !== one.new[name]);
  return found.map((name) => h("span", { class: "block change" }, `${name.replace("_", " ")} ${format.number(one.old[name])} → `, h("strong", {}, format.number(one.new[name]))));
}

function sql(params) {
  const where = [
    params.metric && `metric_name = ${literal(params.metric)}`,
    params.interval && `interval = ${literal(params.interval)}`,
    params.reason && `reason = ${literal(params.reason)}`,
  ].filter(Boolean);
  return `SELECT * FROM metric_restatements${where.length ? `\nWHERE ${where.join(" AND ")}` : ""}\nORDER BY id DESC LIMIT ${PAGE};`;
}
