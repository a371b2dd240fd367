// Lines of the ledger, newest first: one per batch and partition.

import { h } from "../dom.js";
import * as format from "../format.js";
import { literal } from "../sql_text.js";
import { badge, moment, panel, segments, table } from "./parts.js";

const ONLY = [["", "all"], ["dead", "with dead letters"], ["duplicates", "with duplicates"], ["skipped", "with skipped offsets"], ["notes", "moved by a person"]];

/** The panel with a page of lines. `asked`: the parameters of the request. */
export function batchesPanel(found, params, context, asked) {
  const request = { method: "GET", path: "/api/v1/ledger", params: asked };
  const columns = [
    { title: "Batch", isHeader: true, cell: (one) => h("a", { id: `batch-${one.batch_id}-${one.source}-${one.partition}`, href: context.href("ledger", { batch: one.batch_id }) }, String(one.batch_id)) },
    { title: "Committed", cell: (one) => moment(one.committed_at, context.zone) },
    { title: "Partition", cell: (one) => `${one.source}/${one.partition}` },
    { title: "Offsets", cell: (one) => (one.first_offset === null ? format.NOTHING : `${one.first_offset} – ${one.next_offset}`) },
    { title: "Read", end: true, cell: (one) => format.exact(one.read) },
    { title: "Stored", end: true, cell: (one) => format.exact(one.stored) },
    { title: "Duplicates", end: true, cell: (one) => format.exact(one.duplicate) },
    { title: "Dead", end: true, cell: (one) => (one.dead ? badge(format.exact(one.dead), "warn") : "0") },
    { title: "Skipped", end: true, cell: (one) => format.exact(one.skipped) },
    { title: "Took", end: true, cell: (one) => (one.seconds ? format.duration(one.seconds) : format.NOTHING) },
    { title: "Note", cell: (one) => h("span", { class: "break" }, one.note ?? "") },
  ];
  const isPart = params.batch || params.only || params.source;
  return panel(params.batch ? `Batch ${params.batch}` : "Batches", { id: "batches", note: "newest first", tools: context.showAs(() => ({ request, sql: sql(params) })) },
    h("div", { class: "toolbar" },
      segments("only", "Which", ONLY, params.only ?? "", (value) => context.set({ only: value, cursor: null })),
      params.batch && h("button", { type: "button", id: "every-batch", onclick: () => context.set({ batch: null }) }, "All batches")),
    found.lines.length ? table("Batches", columns, found.lines) : h("p", { class: "quiet" }, isPart ? "No batch matches." : "Nothing has landed yet."),
    h("p", { class: "pager" },
      params.cursor && h("button", { type: "button", id: "newest", onclick: () => context.set({ cursor: null }) }, "Newest"),
      found.next_cursor && h("button", { type: "button", id: "older", onclick: () => context.set({ cursor: found.next_cursor }) }, "Older")));
}

function sql(params) {
  const where = [
    params.source && `source = ${literal(params.source)}`,
    params.batch && `batch_id = ${Number(params.batch)}`,
    { dead: "dead > 0", duplicates: "duplicate > 0", skipped: "skipped > 0", notes: "note IS NOT NULL" }[params.only],
  ].filter(Boolean);
  return `SELECT batch_id, committed_at, source, partition, first_offset, next_offset, read, stored, duplicate, dead, skipped, note
FROM ingest_batches${where.length ? `\nWHERE ${where.join(" AND ")}` : ""}
ORDER BY batch_id DESC LIMIT 25;`;
}
