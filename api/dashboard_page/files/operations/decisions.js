// Replay and discard: who may, what would happen, and what happened.

import { h, setText, swap } from "../dom.js";
import * as format from "../format.js";
import { counted } from "./parts.js";
import { whyNotAdmin } from "./names.js";

const PATH = "/api/v1/dead-letters";
const NOTICE = "why-not-admin";

/** Why nothing can be decided here, and the command that does it; nothing for who may. */
export function notice(context, group = null) {
  const why = whyNotAdmin(context.holder);
  if (why === null) return null;
  return h("p", { class: "card quiet", id: NOTICE }, why, " ", h("code", { class: "break" }, `analytics dead-letters replay --group ${group ?? "GROUP"}`));
}

/** The two buttons for a group, or a letter: `{group}` or `{id}`, with `open`, how many are. */
export function actionButtons(what, context, again) {
  const mayNot = whyNotAdmin(context.holder) !== null;
  const name = what.id ?? what.group;
  const button = (verb, isDangerous, open) => h("button", {
    type: "button", id: `${verb}-${name}`, class: isDangerous ? "danger" : null, disabled: mayNot || what.open === 0,
    "aria-describedby": mayNot ? NOTICE : null,
    title: mayNot ? "Needs a key with the scope admin" : what.open === 0 ? "None of them is open" : null,
    "aria-label": `${verb === "replay" ? "Replay" : "Discard"} ${what.id ? `letter ${what.id}` : `group ${what.reason}`}`,
    onclick: () => open(what, context, again),
  }, verb === "replay" ? "Replay …" : "Discard …");
  return [button("replay", false, openReplay), button("discard", true, openDiscard)];
}

const bodyOf = (what) => (what.id ? { ids: [what.id] } : { groups: [what.group] });
const named = (what) => (what.id ? `letter ${what.id}` : `${counted(what.open, "open letter")} of ${what.reason}`);

function openReplay(what, context, again) {
  const body = bodyOf(what);
  const wanted = new AbortController();
  const question = h("p", {}, "Letters are judged anew, by the definitions and limits of now. What is good becomes an event and counts in every metric at once; what is still bad stays open.");
  const outcome = h("div", { class: "outcome", role: "status" }, "Trying without changing anything …");
  const go = h("button", { type: "button", class: "primary", disabled: true, onclick: run }, "Replay");
  const dialog = ask(`Replay ${named(what)}?`, [question, outcome], go, wanted, context.showAs(() => ({ request: { method: "POST", path: `${PATH}/replay`, body } })));

  everything({ ...body, dry_run: true }, context, wanted.signal).then((done) => {
    say(outcome, done.stored ? "good" : "warn", `A dry run: ${told(done, true)}`);
    go.disabled = false;
    setText(go, done.stored ? `Replay ${format.exact(done.tried)}` : "Replay all the same");
    go.focus();
  }, (error) => fail(outcome, error));

  async function run() {
    go.disabled = true;
    say(outcome, "", "Replaying …");
    try {
      const done = await everything(body, context, wanted.signal, (soFar) => say(outcome, "", `${told(soFar, false)} Going on …`));
      const rest = Object.values(done.still_bad).reduce((sum, one) => sum + one, 0) + done.busy;
      say(outcome, rest ? "warn" : "good", told(done, false));
      context.announce(told(done, false));
      finish(dialog, go);
    } catch (error) {
      fail(outcome, error, " What was replayed stays replayed; try again for the rest.");
      go.disabled = false;
    } finally {
      again();
    }
  }
}

/** Send a replay until all were tried; the sum of what was answered. */
async function everything(body, context, signal, onPart = () => {}) {
  const sum = { tried: 0, stored: 0, duplicate: 0, busy: 0, still_bad: {} };
  for (let after = 0; after !== null;) {
    const done = await context.api.post(`${PATH}/replay`, after ? { ...body, after } : body, { signal });
    for (const name of ["tried", "stored", "duplicate", "busy"]) sum[name] += done[name];
    for (const [reason, count] of Object.entries(done.still_bad)) sum.still_bad[reason] = (sum.still_bad[reason] ?? 0) + count;
    after = done.next_after;
    if (after !== null) onPart(sum);
  }
  return sum;
}

/** What a replay did, or would do, in a sentence. */
export function told(done, isDry) {
  if (done.tried === 0) return "None of them is open any more: there is nothing to replay.";
  const parts = [`${format.exact(done.stored)} of ${format.exact(done.tried)} ${isDry ? "would become" : "became"} ${done.stored === 1 ? "an event" : "events"}`];
  if (done.duplicate) parts.push(`${format.exact(done.duplicate)} ${done.duplicate === 1 ? "was" : "were"} stored already`);
  for (const [reason, count] of Object.entries(done.still_bad)) parts.push(`${format.exact(count)} ${count === 1 ? "is" : "are"} still ${reason}`);
  if (done.busy) parts.push(`${format.exact(done.busy)} ${done.busy === 1 ? "is" : "are"} held by another replay`);
  return `${parts.join(", ")}.`;
}

function openDiscard(what, context, again) {
  const body = bodyOf(what);
  const wanted = new AbortController();
  const note = h("input", { type: "text", id: "discard-note", required: true, maxlength: "500", autocomplete: "off", oninput: () => { go.disabled = !note.value.trim(); } });
  const outcome = h("div", { class: "outcome", role: "status", hidden: true });
  const go = h("button", { type: "button", class: "danger", disabled: true, onclick: run }, "Discard");
  const dialog = ask(`Discard ${named(what)}?`, [
    h("p", {}, "They and their bytes stay, but they are no longer open, and no replay takes them."),
    h("label", { for: "discard-note" }, "Why (kept with them)"), note, outcome,
  ], go, wanted, context.showAs(() => ({ request: { method: "POST", path: `${PATH}/discard`, body: { ...body, note: note.value || "why" } } })));
  note.focus();

  async function run() {
    go.disabled = true;
    outcome.hidden = false;
    say(outcome, "", "Discarding …");
    let count = 0;
    try {
      for (let hasMore = true; hasMore;) {
        const done = await context.api.post(`${PATH}/discard`, { ...body, note: note.value.trim() }, { signal: wanted.signal });
        count += done.discarded;
        hasMore = done.has_more;
      }
      say(outcome, "good", `${counted(count, "letter was", "letters were")} discarded.`);
      context.announce(`${counted(count, "letter was", "letters were")} discarded.`);
      finish(dialog, go);
    } catch (error) {
      fail(outcome, error, count ? ` ${counted(count, "letter was", "letters were")} discarded before.` : "");
      go.disabled = false;
    } finally {
      again();
    }
  }
}

function ask(title, content, go, wanted, showAs) {
  const cancel = h("button", { type: "button", class: "cancel", onclick: () => dialog.close() }, "Cancel");
  const dialog = h("dialog", { class: "dialog", "aria-labelledby": "decision-title",
    onclose: () => {
      wanted.abort();
      dialog.remove();
    } },
    h("header", {}, h("h2", { id: "decision-title" }, title), h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×")),
    content, h("footer", {}, go, cancel, showAs));
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
}

/** It is done: what is left is to close. */
function finish(dialog, go) {
  go.hidden = true;
  const close = dialog.querySelector(".cancel");
  setText(close, "Close");
  close.focus();
}

function say(outcome, kind, text) {
  outcome.className = `outcome ${kind}`;
  swap(outcome, text);
}

function fail(outcome, error, more = "") {
  if (error.name === "AbortError") return;
  say(outcome, "bad", error.message + more);
}
