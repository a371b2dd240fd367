// The rows of the event tail: newest first, at most so many, each event once.

import { h } from "../dom.js";
import * as format from "../format.js";

const MOST = 300;
const MOST_LIT = 20; // at once: more is no news but a flicker

/** Rows of a table body. `open(event)` is called with the event whose row is pressed. */
export class Rows {
  constructor(zone, open) {
    this.zone = zone;
    this.open = open;
    this.known = new Map(); // key -> {event, row}, newest first
    this.element = h("tbody", {});
  }

  /** Put events where their time says, if they are not there yet; `isFresh` lights them up for a moment. */
  add(events, { isFresh = true } = {}) {
    const fresh = events.filter((event) => !this.known.has(keyOf(event)));
    if (!fresh.length) return;
    for (const event of fresh) this.known.set(keyOf(event), { event, row: null });
    const ordered = [...this.known].sort(([, one], [, other]) => compare(other.event, one.event));
    this.known = new Map(ordered.slice(0, MOST));
    for (const [, { row }] of ordered.slice(MOST)) row?.remove();
    const lights = isFresh && fresh.length <= MOST_LIT;
    let next = this.element.firstElementChild;
    for (const entry of this.known.values()) {
      if (entry.row === null) {
        entry.row = this.row(entry.event, lights);
        this.element.insertBefore(entry.row, next);
      } else {
        next = entry.row.nextElementSibling;
      }
    }
  }

  clear() {
    this.known.clear();
    this.element.replaceChildren();
  }

  get size() {
    return this.known.size;
  }

  row(event, isFresh) {
    const open = () => this.open(event);
    const time = h("button", { type: "button", class: "opener", onclick: (pressed) => { pressed.stopPropagation(); open(); }, "aria-label": `${event.event_type} at ${format.exactTime(event.timestamp, this.zone)}: show it whole` },
      format.exactTime(event.timestamp, this.zone).slice(5));
    return h("tr", { class: isFresh ? "fresh" : null, onclick: open },
      h("td", {}, time), h("td", { title: event.event_type }, event.event_type),
      h("td", { title: event.user_id }, event.user_id ?? ""), h("td", { title: event.session_id }, event.session_id ?? ""),
      h("td", {}, propertiesOf(event.properties)));
  }
}

const keyOf = ({ id, timestamp }) => `${timestamp} ${id}`;

function compare(one, other) {
  const by = Date.parse(one.timestamp) - Date.parse(other.timestamp);
  return by || (one.timestamp < other.timestamp ? -1 : one.timestamp > other.timestamp ? 1 : one.id < other.id ? -1 : 1);
}

function propertiesOf(properties) {
  const parts = Object.entries(properties ?? {}).flatMap(([name, value]) => [
    `${name}=`, h("b", {}, typeof value === "object" ? JSON.stringify(value) : String(value)), " "]);
  return h("span", { class: "properties" }, parts);
}
