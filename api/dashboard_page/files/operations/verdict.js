// The first thing an operator reads: whether anything is wrong, what, and what to do.

import { h } from "../dom.js";
import * as format from "../format.js";
import { badge, counted } from "./parts.js";
import { look } from "./names.js";

/** The card on top. Without an answer, what that itself says: `error` is why there is none. */
export function verdict(found, health, context, error = null, again = null) {
  if (error) return unknown(error, again);
  const problems = withHealth(found.problems, health);
  if (problems.length === 0) return well(found, context);
  const errors = problems.filter((one) => one.severity === "error").length;
  const title = errors
    ? `${counted(errors, "problem needs", "problems need")} a person now`
    : `${counted(problems.length, "thing", "things")} to look at in the morning`;
  return card(errors ? "bad" : "warn", errors ? "✕" : "!", title,
    h("ul", { class: "problems" }, problems.map((one) => item(one, context))));
}

function well(found, context) {
  const behind = found.landing.partitions.filter((one) => !one.is_retired).map((one) => one.behind_seconds ?? 0);
  const facts = [
    behind.length && `Everything that Kafka held ${format.duration(Math.max(...behind))} ago has landed.`,
    `Every message of the last hour is accounted for: ${format.exact(found.last_hour.read)} read, no gap.`,
    found.rollups.oldest_pending_seconds === null
      ? "Nothing waits to be settled."
      : `What waits to be settled has waited for ${format.duration(found.rollups.oldest_pending_seconds)}.`,
  ];
  return card("good", "✓", "Nothing is wrong", h("p", { class: "quiet" }, facts.filter(Boolean).join(" ")),
    found.last_hour.dead > 0 && h("p", { class: "quiet" }, `${counted(found.last_hour.dead, "dead letter")} came in the last hour. `,
      h("a", { href: context.href("dead-letters", { period: "1h" }) }, "See them")));
}

/** Postgres can be away although the last answer is at hand, and then nothing else matters. */
function withHealth(problems, health) {
  if (health?.database !== "disconnected") return problems;
  return [{ name: "database_down", severity: "error", text: health.detail ?? "Postgres is not reachable.", advice: DATABASE_ADVICE }, ...problems];
}

const DATABASE_ADVICE = "Start Postgres, or look at its log. Kafka keeps what arrives, and ingest goes on by itself: nothing is lost.";

function unknown(error, again) {
  if (error.status === 403) return card("warn", "?", "This key does not see the pipeline", h("p", {}, error.message));
  const isDatabase = String(error.problem?.type ?? "").endsWith("database-unavailable");
  return card("bad", "✕", isDatabase ? "Postgres is not reachable" : "Nobody knows: the API does not say",
    h("p", {}, isDatabase ? DATABASE_ADVICE : error.message),
    again && h("button", { type: "button", id: "ask-again", onclick: again }, "Ask again"));
}

function card(kind, sign, title, ...children) {
  return h("section", { class: `card verdict ${kind}`, "aria-labelledby": "verdict-title", "data-status": kind },
    h("span", { class: "verdict-sign", "aria-hidden": "true" }, sign),
    h("div", {}, h("h2", { id: "verdict-title" }, title), children));
}

function item(problem, context) {
  const more = look(problem, context);
  return h("li", { "data-problem": problem.name },
    badge(problem.severity === "error" ? "now" : "in the morning", problem.severity === "error" ? "bad" : "warn"),
    h("div", {}, h("p", { class: "problem-text" }, problem.text),
      h("p", { class: "quiet" }, code(problem.advice), more && [" ", h("a", { href: more.href }, more.text)])));
}

/** Commands between backticks are set as code. */
export const code = (text) => text.split("`").map((part, place) => (place % 2 ? h("code", {}, part) : part));
