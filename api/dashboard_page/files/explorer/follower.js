// Keeps an answer up to date while its range ends now: by the stream, or by asking again where there is none.
//
// Belongs here: when something new is looked for. Does not belong here: reading and drawing (`views/explorer`).

import { state } from "../live.js";
import { secondsOf } from "./question.js";
import { withChanges } from "./series.js";

const ASK_EVERY = 5000;
const RANKED_EVERY = 2000;
const MOVE_EVERY = 5000;

export class Follower {
  /** `follow` opens a stream; `read` asks the question again. */
  constructor(follow, read) {
    Object.assign(this, { follow, read, close: null, timers: [] });
  }

  /** Follow a question; `answer()` is the newest one there is, `onAnswer` gets each that follows. */
  start(params, question, answer, onAnswer) {
    this.stop();
    let rankedAt = 0;
    const begin = () => (question.last ? Date.now() - secondsOf(question.last) * 1000 : -Infinity);
    this.close = this.follow("metrics", params, {
      snapshot: onAnswer,
      points: (message) => {
        // Who is in the top may have changed, which single points do not tell.
        if (question.top && question.groupBy.length) {
          if (Date.now() - rankedAt < RANKED_EVERY) return;
          rankedAt = Date.now();
          this.read();
        } else if (answer()) onAnswer(withChanges(answer(), message, begin()));
      },
    });
    // The clock moves the range, also when nothing lands. The cache of the browser makes an answer that is the same a 304.
    this.timers = [
      setInterval(() => !document.hidden && answer() && onAnswer(withChanges(answer(), { data_points: [] }, begin())), MOVE_EVERY),
      setInterval(() => !document.hidden && state().word !== "live" && this.read(), ASK_EVERY),
    ];
  }

  stop() {
    this.close?.();
    this.close = null;
    for (const timer of this.timers) clearInterval(timer);
    this.timers = [];
  }
}
