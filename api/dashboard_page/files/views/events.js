// Events as they land, with filters; one of them opens whole.

import { emptyState, errorState, h, setText, textField } from "../dom.js";
import { openEvent } from "../events/event_dialog.js";
import { Rows } from "../events/rows.js";
import { literal } from "../sql_text.js";

const FIRST = 100;
const WAITING = 300;
// By then all that had happened before the stream began has landed, and the list has what the stream does not tell.
const SECOND_LOOK = 3000;
const FIELDS = [
  ["event_type", "Type", "order.filled, order.*", "several with commas between; order.* for all that begin so"],
  ["user_id", "User", "", ""],
  ["session_id", "Session", "", ""],
  ["property", "Properties", "symbol:eq:BTCUSDT, price:gte:100", "name:operator:value, several with commas and a space between; operators: eq ne gt gte lt lte in prefix exists"],
];

export const view = {
  id: "events",
  title: "Events",
  render(root, params, context) {
    const tail = new Tail(root, params, context);
    tail.start();
    return () => tail.dispose();
  },
};

class Tail {
  constructor(root, params, context) {
    this.root = root;
    this.params = params;
    this.context = context;
    this.filters = filtersOf(params);
    this.isPaused = false;
    this.waiting = [];
    this.wanted = new AbortController();
    this.closers = [() => this.wanted.abort()];
    this.rows = new Rows(context.zone, (event) => this.open(event));
  }

  start() {
    const { context } = this;
    const request = () => ({ request: { method: "GET", path: "/api/v1/stream/events", params: this.filters }, sql: sqlOf(this.filters) });
    this.pauseButton = h("button", { type: "button", "data-key": "p", "aria-pressed": "false", onclick: () => this.pause(!this.isPaused) }, "Pause");
    this.note = h("div", { class: "tail-note quiet", role: "status" });
    this.place = h("div", {});
    this.root.append(
      h("div", { class: "toolbar" },
        FIELDS.map(([name, label, example, meaning]) => {
          const field = textField(`filter-${name}`, label, this.params[name] ?? "", (text) => context.set({ [name]: text, open: null, at: null }), { placeholder: example, title: meaning });
          if (name === "property") field.classList.add("long");
          return field;
        }),
        this.pauseButton,
        h("button", { type: "button", class: "plain", onclick: () => this.clear() }, "Clear"),
        this.note, h("span", { class: "end" }, context.showAs(request))),
      this.place);
    this.show();
    this.closers.push(context.follow("events", this.filters, { events: (found) => this.arrive(found) }));
    this.list();
    const again = setTimeout(() => this.list(), SECOND_LOOK);
    this.closers.push(() => clearTimeout(again));
    if (this.params.open) this.open({ id: this.params.open, timestamp: this.params.at });
  }

  async list() {
    try {
      const found = await this.context.api.get("/api/v1/events", { ...this.filters, limit: FIRST }, { signal: this.wanted.signal });
      if (this.isPaused) this.waiting = [...found.events, ...this.waiting].slice(-WAITING);
      else this.rows.add(found.events, { isFresh: false });
      this.isListed = true;
      this.show();
    } catch (error) {
      if (error.name === "AbortError") return;
      // Nothing was found within what a search may look at: the stream still tells of what comes.
      if (error.problem?.type?.endsWith("scan-budget")) {
        this.isListed = true;
        this.show();
      } else {
        this.place.replaceChildren(errorState(error, () => this.context.set({})));
      }
    }
  }

  arrive({ events, has_gap: hasGap }) {
    if (this.isPaused) {
      this.waiting = [...this.waiting, ...events].slice(-WAITING);
      this.say(`Paused; ${this.waiting.length === WAITING ? `${WAITING} or more` : this.waiting.length} new.`);
      return;
    }
    this.rows.add(events);
    this.show();
    this.say(hasGap ? "More events than can be read: the newest 200 of each second are shown." : "");
  }

  pause(isPaused) {
    this.isPaused = isPaused;
    this.pauseButton.setAttribute("aria-pressed", String(isPaused));
    setText(this.pauseButton, isPaused ? "Go on" : "Pause");
    this.say(isPaused ? "Paused." : "");
    if (!isPaused) {
      this.rows.add(this.waiting);
      this.waiting = [];
      this.show();
    }
  }

  clear() {
    this.rows.clear();
    this.waiting = [];
    this.isListed = true;
    this.show();
  }

  open(event) {
    this.context.set({ open: event.id, at: event.timestamp }, { redraw: false });
    const isOpen = this.closeDialog;
    if (isOpen) return;
    const close = openEvent(event, this.context, () => {
      this.closeDialog = null;
      if (!this.wanted.signal.aborted) this.context.set({ open: null, at: null }, { redraw: false });
    });
    this.closeDialog = close;
    this.closers.push(() => this.closeDialog?.());
  }

  show() {
    if (this.rows.size) {
      if (!this.table) {
        this.table = h("div", { class: "card tail" }, h("table", {}, h("caption", { class: "hidden" }, "Newest events"),
          h("thead", {}, h("tr", {}, ["Time", "Type", "User", "Session", "Properties"].map((name) => h("th", { scope: "col" }, name)))), this.rows.element));
      }
      if (this.place.firstChild !== this.table) this.place.replaceChildren(this.table);
      return;
    }
    this.place.replaceChildren(h("div", { class: "card" }, this.isListed
      ? emptyState("No event yet", Object.keys(this.filters).length ? "None of the last 24 hours fits the filters; new ones appear here as they land." : "New events appear here as they land.")
      : h("p", { class: "state" }, "Loading …")));
  }

  say(text) {
    setText(this.note, text);
  }

  dispose() {
    for (const close of this.closers) close();
  }
}

function filtersOf(params) {
  const found = {};
  for (const [name] of FIELDS) {
    const text = params[name]?.trim();
    if (!text) continue;
    const separator = name === "property" ? /,\s+/ : /\s*,\s*/;
    found[name] = name === "event_type" || name === "property" ? text.split(separator).filter(Boolean) : text;
  }
  return found;
}

function sqlOf(filters) {
  const where = ["timestamp >= now() - interval '1 hour'"];
  const types = (filters.event_type ?? []).map((type) => (type.endsWith("*") ? `event_type LIKE ${literal(`${type.slice(0, -1).replace(/[%_\\]/g, "\\$&")}%`)}` : `event_type = ${literal(type)}`));
  if (types.length) where.push(types.length > 1 ? `(${types.join(" OR ")})` : types[0]);
  for (const name of ["user_id", "session_id"]) if (filters[name]) where.push(`${name} = ${literal(filters[name])}`);
  const signs = { gt: ">", gte: ">=", lt: "<", lte: "<=" };
  for (const filter of filters.property ?? []) {
    const [name, operator, ...rest] = filter.split(":");
    const value = rest.join(":");
    if (operator === "eq") where.push(`properties ->> ${literal(name)} = ${literal(value)}`);
    else if (operator in signs) where.push(`(properties ->> ${literal(name)})::numeric ${signs[operator]} ${Number(value) || 0}`);
    else return null;
  }
  return `SELECT timestamp, event_type, user_id, session_id, properties\nFROM events\nWHERE ${where.join("\n  AND ")}\nORDER BY timestamp DESC\nLIMIT 100;`;
}
