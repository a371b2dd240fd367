// One dead letter whole: what it says of itself, its bytes, and what can be done about it.

import { errorState, h, swap } from "../dom.js";
import * as format from "../format.js";
import { actionButtons, notice } from "./decisions.js";
import { fate, placeOf } from "./letter_tables.js";
import { moment, panel } from "./parts.js";

const PATH = "/api/v1/dead-letters";

/** Fill `root` with the letter that `params.letter` names; the answer disposes of it. */
export function letterPage(root, params, context) {
  const wanted = new AbortController();
  const back = h("p", { class: "crumbs" }, h("a", { href: context.href("dead-letters", {}) }, "← All groups"));
  const body = h("div", {}, h("p", { class: "card quiet" }, "Reading …"));
  root.append(back, body);
  const request = { method: "GET", path: `${PATH}/${encodeURIComponent(params.letter)}` };

  async function read() {
    try {
      const letter = await context.api.send(request, { signal: wanted.signal });
      swap(body, draw(letter, request, context, read));
    } catch (error) {
      if (error.name === "AbortError") return;
      swap(body, error.status === 404
        ? h("div", { class: "state" }, h("p", { class: "state-title" }, "There is no such letter"), h("p", {}, error.message))
        : errorState(error, read));
    }
  }
  read();
  return () => wanted.abort();
}

function draw(letter, request, context, again) {
  const sql = `SELECT * FROM dead_letter_events WHERE id = ${letter.id};`;
  const what = { id: letter.id, reason: letter.reason, open: letter.status === "open" ? 1 : 0 };
  return [
    notice(context, letter.group),
    panel(`Letter ${letter.id}: ${letter.reason}`, { id: "letter", tools: [actionButtons(what, context, again), context.showAs(() => ({ request, sql }))] },
      h("p", {}, letter.meaning ?? ""), letter.advice && h("p", {}, h("strong", {}, "What to do: "), letter.advice),
      h("dl", { class: "facts" }, facts(letter, context).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))))),
    panel("Value", { id: "value", note: letter.value && format.number(letter.value.size, "bytes") },
      bytes(letter.value, "value", "There is none: a tombstone, or its bytes have expired.")),
    panel("Key", { id: "key-of-message", note: letter.key && format.number(letter.key.size, "bytes") }, bytes(letter.key, "key", "The message has no key.")),
    panel("Headers", { id: "headers", note: `${letter.headers.length}` }, headers(letter, context)),
  ];
}

function facts(letter, context) {
  const link = h("a", { href: context.href("dead-letters", { group: letter.group, status: "all" }) }, letter.group);
  const found = [
    ["Fate", fate(letter)],
    ["Where", letter.detail || format.NOTHING],
    ["Event type", letter.event_type ?? "not known"],
    ["Message", placeOf(letter)],
    ["Producer", letter.producer ?? "not known"],
    ["Written", moment(letter.created_at, context.zone)],
    ["Reached its source", moment(letter.message_timestamp, context.zone)],
    ["Group", link],
    ["Replays", format.exact(letter.attempts)],
  ];
  if (letter.attempted_at) found.push(["Last replay", moment(letter.attempted_at, context.zone)]);
  if (letter.settled_at) found.push([letter.status === "replayed" ? "Replayed" : "Discarded", moment(letter.settled_at, context.zone)]);
  if (letter.replay_batch_id) found.push(["Landed by batch", h("a", { href: context.href("ledger", { batch: letter.replay_batch_id }) }, String(letter.replay_batch_id))]);
  if (letter.note) found.push(["Note", letter.note]);
  return found;
}

function bytes(shown, name, nothing) {
  if (shown === null) return h("p", { class: "quiet" }, nothing);
  const [note, text] = shown.text === null
    ? ["Not UTF-8: bytes in hexadecimal, with what of them is ASCII.", dump(shown.base64)]
    : readable(shown.text);
  return [
    h("p", { class: "quiet small" }, note),
    h("pre", { class: "bytes", tabindex: "0", role: "region", "aria-label": `Bytes of the ${name}` }, text),
    shown.is_cut && h("p", { class: "quiet small" }, "There is more: ask with max_bytes, or export it."),
  ];
}

const INVISIBLE = /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/g;

/** Marks that hide or turn text around are written out, so that what is seen is what is there. */
const visible = (text) => text.replace(INVISIBLE, (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** What is said about a text, and the text: in lines, if it is JSON whose digits and keys stay as they are. */
function readable(text) {
  try {
    const set = JSON.stringify(JSON.parse(text), null, 2);
    if (set.replaceAll(/\s/g, "") === text.replaceAll(/\s/g, "")) return ["JSON, set in lines.", visible(set)];
  } catch {
    // Not JSON.
  }
  return ["Text as it came; characters that cannot be seen are written as \\u….", visible(text)];
}

function dump(base64) {
  const found = Uint8Array.from(atob(base64), (one) => one.charCodeAt(0));
  const lines = [];
  for (let at = 0; at < Math.min(found.length, 4096); at += 16) {
    const row = [...found.subarray(at, at + 16)];
    const hex = row.map((one) => one.toString(16).padStart(2, "0")).join(" ").padEnd(47);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${hex}  ${row.map((one) => (one > 31 && one < 127 ? String.fromCharCode(one) : ".")).join("")}`);
  }
  return lines.join("\n");
}

function headers(letter, context) {
  if (letter.headers.length === 0) return h("p", { class: "quiet" }, "The message has none.");
  const maySee = context.holder.scopes.includes("admin");
  return [
    !maySee && h("p", { class: "quiet small" }, "Headers hold credentials: their values are for keys with the scope admin."),
    h("dl", { class: "facts" }, letter.headers.map((one) => h("div", {}, h("dt", {}, visible(one.name)),
      h("dd", {}, one.size === null ? "null" : one.value === null ? format.number(one.size, "bytes") : h("code", {}, one.value.text === null ? one.value.base64 : visible(one.value.text)))))),
  ];
}
