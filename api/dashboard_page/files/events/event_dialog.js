// One event, whole.

import { errorState, h } from "../dom.js";
import * as format from "../format.js";

const path = (id) => `/api/v1/events/${encodeURIComponent(id)}`;

/** Show an event over the page; `event` may be {id, timestamp} alone. `closed` is called when it is left. */
export function openEvent(event, context, closed) {
  const request = { method: "GET", path: path(event.id), params: { timestamp: event.timestamp } };
  const sql = `SELECT *\nFROM events\nWHERE id = '${event.id}' AND timestamp = '${event.timestamp}';`;
  const body = h("div", {}, h("p", { class: "quiet" }, "Loading …"));
  const dialog = h("dialog", { class: "dialog dialog-wide", "aria-labelledby": "event-title",
    onclose: () => { dialog.remove(); closed(); } },
    h("header", {}, h("h2", { id: "event-title" }, event.event_type ?? "Event"),
      h("span", {}, context.showAs(() => ({ request, sql })),
        h("button", { type: "button", class: "icon", "aria-label": "Close", onclick: () => dialog.close() }, "×"))),
    body);
  document.body.append(dialog);
  dialog.showModal();
  context.api.send(request).then((found) => body.replaceChildren(...shown(found, context)), (error) => body.replaceChildren(errorState(error)));
  return () => dialog.close();
}

function shown(event, context) {
  const { properties, ...rest } = event;
  const times = new Set(["timestamp", "created_at"]);
  const rows = Object.entries(rest).map(([name, value]) => h("tr", {}, h("th", { scope: "row" }, name),
    h("td", {}, value === null ? h("span", { class: "quiet" }, "none") : times.has(name) ? `${value} (${format.exactTime(value, context.zone)}, ${context.zone})` : String(value))));
  const code = h("pre", { tabindex: "0", "aria-label": "Properties" }, h("code", {}, JSON.stringify(properties ?? {}, null, 2)));
  return [h("div", { class: "scroll" }, h("table", { class: "keys" }, h("tbody", {}, rows))), h("h3", { class: "dialog-heading" }, "Properties"), code];
}
