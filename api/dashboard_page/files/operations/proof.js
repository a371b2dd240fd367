// The proof, made when it is asked for: every balance of the ledger, with its numbers and broken places.

import { h, swap } from "../dom.js";
import * as format from "../format.js";
import { badge, panel, since, table } from "./parts.js";

/** A panel with a button; the answer stands below it. */
export function proof(period, context) {
  const wanted = { period, tables: false };
  const result = h("div", {});
  const button = h("button", { type: "button", id: "prove", onclick: run }, "Prove it");
  const request = () => ({ method: "GET", path: "/api/v1/ledger/checks", params: { start_time: since(wanted.period), tables: wanted.tables ? "true" : null } });
  const field = h("input", { type: "checkbox", id: "tables", onchange: () => { wanted.tables = field.checked; } });

  async function run() {
    button.disabled = true;
    swap(result, h("p", { class: "quiet", role: "status" }, "Reading the ledger …"));
    try {
      swap(result, answer(await context.api.send(request()), wanted.period));
    } catch (error) {
      swap(result, h("p", { class: "outcome bad", role: "alert" }, error.message));
    } finally {
      button.disabled = false;
      button.focus();
    }
  }

  return panel("Proof", { id: "proof", note: `every balance of the last ${period}`, tools: context.showAs(() => ({ request: request() })) },
    h("div", { class: "toolbar" }, button, h("label", { class: "check", for: "tables" }, field, "compare with the rows of events, too (reads them)")), result);
}

function answer(found, period) {
  const columns = [
    { title: "Question", isHeader: true, cell: (one) => one.question },
    { title: "Answer", cell: (one) => (one.holds ? badge("yes", "good") : badge(`no: ${one.broken} broken`, "bad")) },
    { title: "Numbers", cell: (one) => Object.entries(one.numbers).map(([name, value]) => `${name.replaceAll("_", " ")} ${format.exact(value)}`).join(", ") },
    { title: "Where", cell: (one) => one.places.map((place) => h("span", { class: "block break" }, `${place.source}${place.partition === null ? "" : `/${place.partition}`}: ${place.problem}`)) },
  ];
  return [
    h("p", { class: `outcome ${found.holds ? "good" : "bad"}`, role: "status" }, found.holds ? `Proved: nothing of the last ${period} was lost or doubled.` : "Something is broken; the places are named."),
    table("Balances", columns, [...found.checks].sort((a, b) => a.holds - b.holds)),
  ];
}
