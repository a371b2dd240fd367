// What problems, reasons of disorder and states are called on the page, and where to look further.

/** The view that shows more of a problem of /api/v1/pipeline, with its settings, and what the link says. */
const LOOK = {
  ledger_broken: ["ledger", {}, "See the ledger"],
  "partition_stopped dead_letters": ["dead-letters", {}, "See the dead letters"],
  dead_letters: ["dead-letters", {}, "See the dead letters"],
  inbox_waits: ["ledger", { source: "http" }, "See the batches of posted events"],
  check_failed: ["pipeline", {}, null],
};

/** `{href, text}` of the view that shows more of a problem; null where this one does. */
export function look(problem, context) {
  const [view, params, text] = LOOK[problem.reason ? `${problem.name} ${problem.reason}` : problem.name] ?? [];
  return text ? { href: context.href(view, params), text } : null;
}

const STATES = {
  stopped: ["stopped", "bad"],
  unowned: ["nobody reads it", "bad", "The process that claimed it last is not connected"],
  very_late: ["far behind", "bad", "More than ten minutes"],
  late: ["behind", "warn", "More than five minutes"],
  unknown: ["not known yet", "warn", "Nobody has noted yet when everything had landed"],
  fresh: ["comes along", "good", "Read, and less than five minutes behind"],
  retired: ["retired", "", "No longer read"],
};
const WORST_FIRST = Object.keys(STATES);

/** How a partition stands: text, colour and explanation of its badge. */
export const standingOf = (partition) => {
  const [text, kind, title] = STATES[partition.state] ?? [partition.state, ""];
  return [text, kind, partition.stopped ?? title];
};

/** For sorting: what needs a person stands first. */
export const byState = (a, b) => WORST_FIRST.indexOf(a.state) - WORST_FIRST.indexOf(b.state);

const RUNS = {
  SUCCESS: ["succeeded", "good"], FAILURE: ["failed", "bad"], CANCELED: ["canceled", "warn"], CANCELING: ["being canceled", "warn"],
  STARTED: ["running", ""], STARTING: ["starting", ""], QUEUED: ["queued", ""], NOT_STARTED: ["not started", ""],
};

/** A status of Dagster's runs, in a word and a colour. */
export const runStatus = (status) => RUNS[status] ?? [status.toLowerCase(), ""];

/** Why a key may not decide about dead letters, and what helps; null if it may. */
export function whyNotAdmin(holder) {
  if (holder.scopes.includes("admin")) return null;
  return holder.key_id === null
    ? "The API asks for no keys, so nobody may replay or discard here. On the machine of the service:"
    : "This key may look, not decide: to replay or discard needs one with the scope admin. On the machine of the service:";
}
