// What goes on beside landing: Dagster's runs and checks, backfills, and what retention will remove.

import { h } from "../dom.js";
import * as format from "../format.js";
import { ago, badge, counted, moment, panel, table } from "./parts.js";
import { runStatus } from "./names.js";

const MOST_RUNS = 12;
const get = (path) => ({ request: { method: "GET", path } });

/** The newest run of each job, and the failed ones of a day. */
export function runsPanel(found, context) {
  const now = Date.now();
  const rows = found.runs.filter((run, place, all) => run.status === "FAILURE" || all.findIndex((other) => other.job === run.job) === place);
  const columns = [
    { title: "Job", isHeader: true, cell: (run) => run.job },
    { title: "State", cell: (run) => badge(...runStatus(run.status)) },
    { title: "Ended", cell: (run) => (run.ended_at ? ago(run.ended_at, now, context.zone) : format.NOTHING) },
    { title: "Took", end: true, cell: (run) => (run.ended_at && run.started_at ? format.duration((Date.parse(run.ended_at) - Date.parse(run.started_at)) / 1000) : format.NOTHING) },
    { title: "Run", cell: (run) => h("code", { class: "one-line", title: run.run_id }, run.run_id.slice(0, 8)) },
  ];
  const note = found.daemon_at ? `its daemon was heard ${format.duration((now - Date.parse(found.daemon_at)) / 1000)} ago` : null;
  return panel("Runs of Dagster", { id: "runs", note, tools: context.showAs(() => get("/api/v1/pipeline/runs")) },
    rows.length ? table("Newest run of each job, and failed ones of a day", columns, rows.slice(0, MOST_RUNS)) : nothing(found, "Nothing has run yet."));
}

let showsPassed = false;

/** The last evaluation of each check: failed ones, and on demand those that passed. */
export function checksPanel(found, context) {
  const now = Date.now();
  const failed = found.checks.filter((check) => !check.passed);
  const passed = found.checks.filter((check) => check.passed);
  const columns = [
    { title: "Check", isHeader: true, cell: (check) => [h("span", { class: "break" }, check.name), h("span", { class: "quiet small block" }, check.asset)] },
    { title: "State", cell: (check) => (check.passed ? badge("passed", "good") : badge(check.severity === "error" ? "failed" : "failed, a warning", check.severity === "error" ? "bad" : "warn")) },
    { title: "Evaluated", cell: (check) => ago(check.evaluated_at, now, context.zone) },
  ];
  return panel("Checks of Dagster", { id: "checks", note: found.checks.length ? `${failed.length} of ${found.checks.length} failed` : null },
    found.checks.length === 0 && nothing(found, "Nothing was checked in the last three hours."),
    failed.length > 0 && table("Checks that failed", columns, failed),
    passed.length > 0 && h("details", { open: showsPassed, ontoggle: (event) => { showsPassed = event.target.open; } },
      h("summary", { id: "passed-checks" }, counted(passed.length, "check passed", "checks passed")), table("Checks that passed", columns, passed)));
}

const nothing = (found, text) => h("p", { class: "quiet" }, found.is_known ? text : "Dagster keeps no tables in this database, so nothing is known of it here.");

/** Backfills that have not ended, and hours that are being recomputed. */
export function backfillsPanel(found, context) {
  const now = Date.now();
  const columns = [
    { title: "Metrics", isHeader: true, cell: (one) => (one.is_everything ? "all" : one.metrics?.join(", ") ?? "several") },
    { title: "State", cell: (one) => badge(one.state, one.state === "running" ? "" : "warn") },
    { title: "Hours done", end: true, cell: (one) => (one.total_hours === null ? format.exact(one.hours) : `${format.exact(one.hours)} of ${format.exact(one.total_hours)} (${format.number(one.percent, "percent")})`) },
    { title: "Last", cell: (one) => ago(one.done_at, now, context.zone) },
  ];
  const hours = found.recomputing.length;
  return panel("Backfills", { id: "backfills", note: hours ? `${counted(hours, "hour is", "hours are")} being recomputed` : null, tools: context.showAs(() => get("/api/v1/backfills")) },
    found.backfills.length ? table("Backfills that have not ended", columns, found.backfills) : h("p", { class: "quiet" }, "None is under way, and none waits for somebody to go on with it."));
}

/** What the next run of retention would remove, and what is in its way. */
export function planPanel(plan, context) {
  const stuck = plan.partitions.filter((one) => one.blocked_by.length);
  return panel("Retention", { id: "retention", tools: context.showAs(() => get("/api/v1/retention/plan")) },
    h("p", {}, plan.count === 0 ? "Nothing is due to be removed." : `${counted(plan.count, "partition is", "partitions are")} due to be removed, ${format.number(plan.bytes, "bytes")}.`),
    h("p", { class: "quiet" }, "Events are kept from ", moment(plan.raw_floor, context.zone), " on."),
    [...plan.blocked_by, ...stuck.slice(0, 5).map((one) => `${one.partition}: ${one.blocked_by.join(", ")}`)].map((text) =>
      h("p", {}, badge("in the way", "warn"), " ", text)));
}
