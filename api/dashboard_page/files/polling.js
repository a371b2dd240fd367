// Reads that are repeated, where the API has no stream: while the page is seen, one at a time, slower after a failure.

import { join } from "./live.js";

const SLOWEST = 30000;

/**
 * Call `read(signal)` every `every` milliseconds and give its answer to `show`, unless it is the same as before.
 * `onError(error)` is told of each failure, null once it is over. The answer: {now(), close()}.
 */
export function poll(read, show, { every = 5000, onError = () => {} } = {}) {
  const found = new Poll(read, show, every, onError);
  const leave = join(found);
  return {
    now: () => found.open(),
    close() {
      found.isGone = true;
      leave();
    },
  };
}

class Poll {
  constructor(read, show, every, onError) {
    Object.assign(this, { read, show, every, onError, source: null, reason: "", heardAt: null, failures: 0, shown: null, isGone: false });
    this.timer = null;
  }

  get word() {
    if (this.reason) return "refused";
    if (this.failures) return "reconnecting";
    if (!this.heardAt) return "connecting";
    return Date.now() - this.heardAt > 2 * this.every + 5000 ? "stale" : "live";
  }

  open() {
    this.close();
    if (document.hidden || this.isGone) return;
    this.source = new AbortController();
    this.ask(this.source.signal);
  }

  async ask(signal) {
    try {
      const answer = await this.read(signal);
      if (signal.aborted) return;
      const text = JSON.stringify(answer);
      if (this.failures || this.reason) this.onError(null);
      Object.assign(this, { heardAt: Date.now(), failures: 0, reason: "" });
      if (text !== this.shown) this.show(answer);
      this.shown = text;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if (!("status" in error)) throw error;
      this.failures += 1;
      const isFinal = error.status >= 400 && error.status < 500 && error.status !== 429;
      this.reason = isFinal ? error.message : "";
      this.shown = null;
      this.onError(error);
      if (isFinal) return;
    }
    if (signal.aborted) return;
    const wait = this.failures ? Math.min(this.every * 2 ** Math.min(this.failures - 1, 5), SLOWEST) : this.every;
    this.timer = setTimeout(() => this.open(), wait);
  }

  close() {
    clearTimeout(this.timer);
    this.source?.abort();
    this.source = null;
  }
}
