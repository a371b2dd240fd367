// Tables of dead letters: groups, and the letters of one.

import { h } from "../dom.js";
import * as format from "../format.js";
import { actionButtons } from "./decisions.js";
import { whyNotAdmin } from "./names.js";
import { ago, badge, moment, table } from "./parts.js";

const STATES = { open: "warn", replayed: "good", discarded: "" };

/** What became of a letter. */
export const fate = (letter) => badge(letter.status, STATES[letter.status] ?? "");

/** Groups with what they have in common, how many, when, and what can be done. */
export function groupsTable(groups, params, context, again) {
  const now = Date.now();
  const columns = [
    { title: "Reason", isHeader: true, cell: (one) => h("a", { id: `group-${one.group}`, href: context.href("dead-letters", { ...params, group: one.group }) }, one.reason) },
    { title: "Where", isLong: true, cell: (one) => [h("span", { class: "break" }, one.detail), h("code", { class: "quiet small block clamped", title: one.shape }, one.shape)] },
    { title: "Type", cell: (one) => one.event_type ?? h("span", { class: "quiet" }, "not known") },
    { title: "Producer", cell: (one) => h("span", { class: "break" }, producersOf(one.producers)) },
    { title: "Letters", end: true, cell: (one) => [h("span", { "data-count": one.count }, format.exact(one.count)), one.open !== one.count && h("span", { class: "quiet small block" }, `${format.exact(one.open)} open`)] },
    { title: "First seen", cell: (one) => ago(one.first_seen, now, context.zone) },
    { title: "Last seen", cell: (one) => ago(one.last_seen, now, context.zone) },
    { title: "Newest letter", cell: (one) => h("a", { id: `sample-${one.group}`, href: context.href("dead-letters", { letter: one.sample }), "aria-label": `Newest letter of ${one.reason}` }, String(one.sample)) },
  ];
  // Where nobody may decide, two dead buttons a row say nothing that the notice above does not.
  if (!whyNotAdmin(context.holder)) columns.push({ title: "Decide", cell: (one) => h("span", { class: "row-actions" }, actionButtons(one, context, again)) });
  return table("Groups of dead letters", columns, groups, (one) => ({ "data-group": one.group }));
}

/** Who sent what is in a group: the one with the most letters, and how many others there are. */
function producersOf([most, ...others]) {
  if (most === undefined) return format.NOTHING;
  return others.length ? `${most} and ${others.length} more` : most;
}

/** Letters without their bytes. */
export function lettersTable(letters, context) {
  const columns = [
    { title: "Letter", isHeader: true, cell: (one) => h("a", { id: `letter-${one.id}`, href: context.href("dead-letters", { letter: one.id }) }, String(one.id)) },
    { title: "Written", cell: (one) => moment(one.created_at, context.zone) },
    { title: "Message", cell: (one) => h("span", { class: "break" }, placeOf(one)) },
    { title: "Producer", cell: (one) => h("span", { class: "break" }, one.producer ?? format.NOTHING) },
    { title: "Detail", cell: (one) => h("span", { class: "break" }, one.detail) },
    { title: "Size", end: true, cell: (one) => format.number(one.size, "bytes") },
    { title: "Replays", end: true, cell: (one) => format.exact(one.attempts) },
    { title: "Fate", cell: fate },
  ];
  return table("Dead letters", columns, letters, (one) => ({ "data-letter": one.id }));
}

/** Where a message came from: `order.events/2 at 4711`. */
export const placeOf = (letter) => `${letter.source}/${letter.partition}${letter.offset === null ? "" : ` at ${letter.offset}`}`;
