// Messages that could not become events: groups of them, the letters of one group, one letter whole.

import { emptyState, errorState, h, swap, textField } from "../dom.js";
import { actionButtons, notice } from "../operations/decisions.js";
import { groupsTable, lettersTable } from "../operations/letter_tables.js";
import { letterPage } from "../operations/letter.js";
import { counted, interval, panel, segments, since, troubles } from "../operations/parts.js";
import { poll } from "../polling.js";
import { literal } from "../sql_text.js";

const PATH = "/api/v1/dead-letters";
const STATES = [["open", "open"], ["replayed", "replayed"], ["discarded", "discarded"], ["all", "all"]];
const PERIODS = [["", "ever"], ["1h", "1 h"], ["24h", "24 h"], ["7d", "7 d"]];
const PAGE = 50;

export const view = {
  id: "dead-letters",
  title: "Dead letters",
  render(root, params, context) {
    if (params.letter) return letterPage(root, params, context);
    const trouble = h("div", {});
    const body = h("div", {}, h("p", { class: "card quiet" }, "Reading …"));
    root.append(toolbar(params, context), trouble, body);
    const read = params.group ? readGroup : readGroups;
    const draw = params.group ? drawGroup : drawGroups;
    let isDrawn = false;
    const reading = poll((signal) => read(params, context, signal), (found) => {
      isDrawn = true;
      swap(body, draw(found, params, context, () => reading.now()));
    }, {
      every: 5000,
      onError(error) {
        troubles(trouble, isDrawn ? error : null);
        if (error && !isDrawn) swap(body, errorState(error, () => reading.now()));
      },
    });
    return () => reading.close();
  },
};

/** What the settings in the address choose, as parameters of the API. */
function chosen(params) {
  return {
    status: params.status ?? "open",
    reason: params.reason,
    source: params.source,
    event_type: params.type,
    producer: params.producer,
    start_time: params.period ? since(params.period) : null,
  };
}

function toolbar(params, context) {
  const set = (name) => (value) => context.set({ [name]: value, cursor: null });
  return h("div", { class: "toolbar" },
    segments("status", "Fate of the letters", STATES, params.status ?? "open", (value) => context.set({ status: value === "open" ? null : value, cursor: null })),
    segments("period", "Written in the last", PERIODS, params.period ?? "", set("period")),
    textField("source", "Topic", params.source ?? "", set("source"), { placeholder: "any" }),
    textField("reason", "Reason", params.reason ?? "", set("reason"), { placeholder: "any" }),
    textField("type", "Event type", params.type ?? "", set("type"), { placeholder: "any, such as order.*" }),
    textField("producer", "Producer", params.producer ?? "", set("producer"), { placeholder: "any" }));
}

async function readGroups(params, context, signal) {
  const asked = { ...chosen(params), limit: 200 };
  const found = await context.api.get(`${PATH}/groups`, asked, { signal });
  if (found.groups.length || !context.holder.scopes.length) return { found, asked, day: null };
  // Nothing to show is good news only if messages came: the ledger says how many. A key that sees a part may not ask.
  const day = await context.api.get("/api/v1/ledger/conservation", {}, { signal }).catch(() => null);
  return { found, asked, day: day?.totals ?? null };
}

function drawGroups({ found, asked, day }, params, context, again) {
  const total = found.groups.reduce((sum, one) => sum + one.count, 0);
  const request = { method: "GET", path: `${PATH}/groups`, params: asked };
  if (found.groups.length === 0) return [empty(params, day), h("p", { class: "pager" }, context.showAs(() => ({ request, sql: groupsSql(params) })))];
  return [
    notice(context),
    panel("Groups", { id: "groups", note: `${counted(total, "letter")} in ${counted(found.groups.length, "group")}, the largest first`,
      tools: context.showAs(() => ({ request, sql: groupsSql(params) })) },
    groupsTable(found.groups, params, context, again)),
  ];
}

function empty(params, day) {
  const isNarrow = params.source || params.reason || params.type || params.producer || params.period || (params.status && params.status !== "open");
  if (isNarrow) return emptyState("No dead letters match", "Nothing was written that fits what is chosen above.");
  if (day === null) return emptyState("No open dead letters", "Every letter was replayed or discarded, or there never was one.");
  if (day.read === 0) return emptyState("No open dead letters", "And no message was read in the last 24 h: if some should have come, look at the pipeline.");
  if (day.dead === 0) return emptyState("No dead letters", "Every message of the last 24 h became an event or a duplicate.");
  return emptyState("No open dead letters", `The ${counted(day.dead, "letter")} of the last 24 h were replayed or discarded.`);
}

async function readGroup(params, context, signal) {
  const which = { group: params.group, status: "all" };
  const [groups, letters] = [
    await context.api.get(`${PATH}/groups`, which, { signal }),
    await context.api.get(PATH, { ...chosen(params), group: params.group, cursor: params.cursor, limit: PAGE }, { signal }),
  ];
  return { group: groups.groups[0] ?? null, letters };
}

function drawGroup({ group, letters }, params, context, again) {
  const back = h("p", { class: "crumbs" }, h("a", { href: context.href("dead-letters", { ...params, group: null, cursor: null }) }, "← All groups"));
  if (group === null) {
    return [back, emptyState("This group is gone", "Its letters were replayed into another group, or removed by retention.")];
  }
  const request = { method: "GET", path: PATH, params: { ...chosen(params), group: params.group, limit: PAGE } };
  const list = letters.dead_letters;
  return [
    back,
    notice(context, group.group),
    panel(group.reason, { id: "group", note: `${counted(group.count, "letter")}, ${group.open} open`, tools: actionButtons(group, context, again) },
      h("p", {}, group.detail), h("p", { class: "quiet" }, "Shape: ", h("code", { class: "break" }, group.shape))),
    panel("Letters", { id: "letters", note: "newest first", tools: context.showAs(() => ({ request, sql: lettersSql(params) })) },
      list.length ? lettersTable(list, context) : h("p", { class: "quiet" }, "None of this group matches what is chosen above."),
      h("p", { class: "pager" },
        params.cursor && h("button", { type: "button", id: "newest", onclick: () => context.set({ cursor: null }) }, "Newest"),
        letters.next_cursor && h("button", { type: "button", id: "older", onclick: () => context.set({ cursor: letters.next_cursor }) }, "Older"))),
  ];
}

function conditions(params) {
  const found = [];
  if (params.status !== "all") found.push(`status = ${literal(params.status ?? "open")}`);
  if (params.reason) found.push(`reason = ${literal(params.reason)}`);
  if (params.source) found.push(`source = ${literal(params.source)}`);
  if (params.type) found.push(params.type.endsWith("*") ? `event_type ^@ ${literal(params.type.slice(0, -1))}` : `event_type = ${literal(params.type)}`);
  if (params.producer) found.push(`producer = ${literal(params.producer)}`);
  if (params.period) found.push(`created_at >= now() - ${interval(params.period)}`);
  if (params.group) found.push(`fingerprint = ${literal(params.group)}`);
  return found.length ? `\nWHERE ${found.join("\n  AND ")}` : "";
}

const groupsSql = (params) => `SELECT fingerprint, reason, count(*), count(*) FILTER (WHERE status = 'open') AS open,
       min(created_at) AS first_seen, max(created_at) AS last_seen, max(id) AS sample
FROM dead_letter_events${conditions(params)}
GROUP BY fingerprint, reason ORDER BY count(*) DESC;`;

const lettersSql = (params) => `SELECT id, source, partition, source_offset, reason, detail, event_type, producer, status, created_at
FROM dead_letter_events${conditions(params)}
ORDER BY id DESC LIMIT ${PAGE};`;
