// Server-sent events: streams that go on after an interruption, and one word for how live the page is.
//
// A browser opens six connections to a server over HTTP/1.1, for all its tabs together, so a view opens as few streams
// as it can, and a page that nobody sees has none: it goes on where it was when it is seen again.

import { queryString, whyRefused } from "./api.js";

const STALE_AFTER = 5000;
const CHECK_EVERY = 500;
const SLOWEST_RETRY = 15000;

/** Statuses that stay while the request does. */
export const REFUSED = new Set([400, 403, 404]);
const streams = new Set();
const listeners = new Set();
let told = "";

/**
 * Follow a stream below /api/v1/stream/. `handlers` are functions by the name of the message, each given its data.
 * `beats` says that it speaks at least every second, so that silence means it is stale. The answer closes it.
 */
export function follow(name, params, handlers, { beats = false } = {}) {
  return join(new Stream(name, params, handlers, beats));
}

/** Count something among what makes the page live: open(), close(), `word`, `reason`, `heardAt`, `source`. The answer closes it. */
export function join(stream) {
  streams.add(stream);
  stream.open();
  check();
  return () => {
    stream.close();
    streams.delete(stream);
    check();
  };
}

/** Call `listener` with {word, text} whenever it changes: live, connecting, reconnecting, stale, refused or idle. */
export function onState(listener) {
  listeners.add(listener);
  listener(state());
  return () => listeners.delete(listener);
}

/** How live the page is: as live as its least live stream. */
export function state() {
  const all = [...streams];
  if (all.length === 0) return { word: "idle", text: "not live", since: null };
  const first = (word) => all.find((one) => one.word === word);
  const refused = first("refused");
  if (refused) return { word: "refused", text: refused.reason, since: null };
  const lost = first("reconnecting");
  if (lost) return { word: "reconnecting", text: "reconnecting", since: lost.heardAt };
  if (first("connecting")) return { word: "connecting", text: "connecting", since: null };
  const stale = first("stale");
  if (stale) return { word: "stale", text: "stale", since: stale.heardAt };
  return { word: "live", text: "live", since: null };
}

class Stream {
  constructor(name, params, handlers, beats) {
    Object.assign(this, { name, params, handlers, beats, source: null, reason: "", heardAt: null, lastId: "" });
    this.path = `/api/v1/stream/${name}`;
    this.retryAfter = 1000;
    this.timer = null;
    this.hasProblem = false;
    this.isWanted = false;
  }

  get word() {
    if (this.reason) return "refused";
    if (!this.source || this.source.readyState !== EventSource.OPEN) return this.heardAt ? "reconnecting" : "connecting";
    if (this.hasProblem) return "stale";
    return this.beats && this.heardAt && Date.now() - this.heardAt > STALE_AFTER ? "stale" : "live";
  }

  open() {
    clearTimeout(this.timer);
    if (document.hidden) return;
    this.isWanted = true;
    const last = this.lastId && this.name === "events" ? { last_event_id: this.lastId } : {};
    this.source = new EventSource(`${this.path}${queryString({ ...this.params, ...last })}`);
    this.source.onopen = () => {
      this.reason = "";
      this.retryAfter = 1000;
      check();
    };
    this.source.onerror = () => this.lost();
    for (const [event, handle] of Object.entries(this.handlers)) {
      this.source.addEventListener(event, (message) => {
        this.heardAt = Date.now();
        this.hasProblem = false;
        this.lastId = message.lastEventId || this.lastId;
        handle(JSON.parse(message.data));
      });
    }
    this.source.addEventListener("problem", () => {
      this.hasProblem = true;
      check();
    });
  }

  lost() {
    check();
    // The browser tries again by itself, unless the answer was not a stream.
    if (!this.source || this.source.readyState !== EventSource.CLOSED) return;
    this.source = null;
    whyRefused({ method: "GET", path: this.path, params: this.params }).then((error) => {
      if (!this.isWanted || this.source) return;
      // What will not change by waiting is said, and looked at seldom; the rest is tried again, ever more slowly.
      this.reason = REFUSED.has(error?.status) ? error.message : "";
      if (this.reason) this.retryAfter = SLOWEST_RETRY;
      this.timer = setTimeout(() => this.open(), error ? this.retryAfter : 0);
      this.retryAfter = Math.min(this.retryAfter * 2, SLOWEST_RETRY);
      check();
    });
  }

  close() {
    this.isWanted = false;
    clearTimeout(this.timer);
    this.source?.close();
    this.source = null;
  }
}

function check() {
  const found = state();
  const text = `${found.word} ${found.text} ${found.since}`;
  if (text === told) return;
  told = text;
  for (const listener of listeners) listener(found);
}

document.addEventListener("visibilitychange", () => {
  for (const stream of streams) {
    if (document.hidden) stream.close();
    else if (!stream.source) stream.open();
  }
  if (!document.hidden) check();
});
setInterval(check, CHECK_EVERY);
