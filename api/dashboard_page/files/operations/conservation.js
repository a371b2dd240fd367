// "read = stored + duplicates + dead letters", in total and by topic, and whether it holds, in words and in a colour.

import { emptyState, h } from "../dom.js";
import * as format from "../format.js";
import { ago, badge, counted, panel, table } from "./parts.js";

const SUMS = ["read", "stored", "duplicate", "dead", "skipped", "lines", "gaps", "unbalanced", "uncounted", "decisions"];

/** The card with the equation of all partitions together. */
export function equation(found, period, tool) {
  const { read, stored, duplicate, dead, skipped } = found.totals;
  if (found.totals.lines === 0) {
    return h("div", { class: "card" }, emptyState("Nothing was read", `No batch was committed in the last ${period}.`), tool);
  }
  const wrong = verdictOf(found);
  const term = (sign, value, name) => h("span", { class: "term" }, h("span", { class: "sign" }, sign), h("b", { "data-term": name, "data-value": value }, format.exact(value)), " ", h("span", { class: "term-name" }, name), " ");
  return h("section", { class: `card verdict ${wrong.length ? "bad" : "good"}`, "aria-labelledby": "books", "data-holds": String(wrong.length === 0) },
    h("span", { class: "verdict-sign", "aria-hidden": "true" }, wrong.length ? "✕" : "✓"),
    h("div", {},
      h("header", { class: "equation-title" }, h("h2", { id: "books" }, wrong.length ? "The books do not balance" : "The books balance: nothing was lost or doubled"), tool),
      h("p", { class: "equation" }, term("", read, "read"), term(read === stored + duplicate + dead ? "= " : "≠ ", stored, "stored"), term("+ ", duplicate, "duplicates"), term("+ ", dead, "dead letters")),
      wrong.map((text) => h("p", {}, text)),
      wrong.length > 0 && h("p", {}, "Run ", h("code", {}, "analytics ledger verify --since 24h"), ", or the proof below: both name offsets and batches."),
      h("p", { class: "quiet small" }, `${counted(found.totals.lines, "line")} of the ledger in the last ${period}, all of one moment. ${skipped ? `${format.exact(skipped)} offsets held no message, or an operator left them out.` : "No offset was skipped."}`)));
}

/** What is wrong, a sentence each. */
function verdictOf(found) {
  const sum = (name) => found.partitions.reduce((total, one) => total + one[name], 0);
  const { read, stored, duplicate, dead } = found.totals;
  const rest = read - stored - duplicate - dead;
  return [
    rest !== 0 && `${counted(Math.abs(rest), "message")} ${rest > 0 ? "became nothing: read, but neither stored, nor duplicate, nor dead letter" : "came from nowhere: more became something than was read"}.`,
    sum("gaps") > 0 && `${counted(sum("gaps"), "batch does not begin where the one before it ended", "batches do not begin where the one before them ended")}.`,
    sum("unbalanced") > 0 && `${counted(sum("unbalanced"), "batch does not add up", "batches do not add up")}.`,
    sum("uncounted") > 0 && `${counted(sum("uncounted"), "batch has offsets that were neither read nor skipped", "batches have offsets that were neither read nor skipped")}.`,
  ].filter(Boolean);
}

/** The same by topic; a topic's partitions are added up. */
export function topicsTable(found, context) {
  const topics = new Map();
  for (const one of found.partitions) {
    const sum = topics.get(one.source) ?? { source: one.source, partitions: 0, last_at: null, holds: true, ...Object.fromEntries(SUMS.map((name) => [name, 0])) };
    for (const name of SUMS) sum[name] += one[name];
    sum.partitions += 1;
    sum.holds &&= one.holds;
    if (one.last_at && (!sum.last_at || one.last_at > sum.last_at)) sum.last_at = one.last_at;
    topics.set(one.source, sum);
  }
  const now = Date.now();
  const columns = [
    { title: "Topic", isHeader: true, cell: (one) => h("a", { id: `of-${one.source}`, href: context.href("ledger", { source: one.source }) }, one.source) },
    { title: "Books", cell: (one) => (one.holds ? badge("balance", "good") : badge(disorder(one), "bad")) },
    { title: "Read", end: true, cell: (one) => format.exact(one.read) },
    { title: "= stored", end: true, cell: (one) => format.exact(one.stored) },
    { title: "+ duplicates", end: true, cell: (one) => format.exact(one.duplicate) },
    { title: "+ dead letters", end: true, cell: (one) => (one.dead ? h("a", { href: context.href("dead-letters", { source: one.source, status: "all" }) }, format.exact(one.dead)) : "0") },
    { title: "Skipped", end: true, cell: (one) => format.exact(one.skipped) },
    { title: "Partitions", end: true, cell: (one) => format.exact(one.partitions) },
    { title: "Last batch", cell: (one) => ago(one.last_at, now, context.zone) },
  ];
  return table("Books by topic", columns, [...topics.values()].sort((a, b) => a.holds - b.holds), (one) => ({ "data-topic": one.source, "data-holds": String(one.holds) }));
}

function disorder(one) {
  if (one.gaps) return counted(one.gaps, "gap");
  return one.unbalanced ? `${one.unbalanced} do not add up` : `${one.uncounted} leave offsets out`;
}

/** Batches that do not begin where the one before them ended. */
export function gapsPanel(gaps, context) {
  const columns = [
    { title: "Partition", isHeader: true, cell: (one) => `${one.source}/${one.partition}` },
    { title: "What", cell: (one) => (one.first_offset > one.expected
      ? badge(`offsets ${one.expected} to ${one.first_offset - 1} are missing`, "bad")
      : badge(`offsets ${one.first_offset} to ${one.expected - 1} twice`, "bad")) },
    { title: "Between batches", cell: (one) => [batch(one.after_batch, context), " and ", batch(one.batch_id, context)] },
  ];
  return panel("Gaps", { id: "gaps", note: "the newest twenty" }, table("Gaps in the ledger", columns, gaps));
}

const batch = (id, context) => h("a", { href: context.href("ledger", { batch: id }) }, String(id));
