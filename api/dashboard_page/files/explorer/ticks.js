// Where an axis of time is marked, and how a zone's clock reads there.
//
// Belongs here: times of zones. Does not belong here: drawing (`figure`). Axes count in UTC, so that an hour that a clock
// shows twice is two hours wide.

const MINUTE = 60000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const STEPS = [1, 2, 5, 10, 15, 30].map((one) => one * MINUTE)
  .concat([1, 2, 3, 6, 12].map((one) => one * HOUR), [1, 2, 7, 14, 28].map((one) => one * DAY));
const MONDAY = 4 * DAY; // of 1970
const formatters = new Map();

function formatter(zone, options) {
  const key = zone + JSON.stringify(options);
  if (!formatters.has(key)) formatters.set(key, new Intl.DateTimeFormat("en-GB", { timeZone: zone, hourCycle: "h23", ...options }));
  return formatters.get(key);
}

/** How far the clock of a zone is ahead of UTC at a moment, in ms. */
function offsetOf(zone, at) {
  const options = { year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" };
  const found = Object.fromEntries(formatter(zone, options).formatToParts(at).map(({ type, value }) => [type, Number(value)]));
  const shown = Date.UTC(found.year, found.month - 1, found.day, found.hour, found.minute, found.second);
  return shown - Math.floor(at / 1000) * 1000;
}

/**
 * The moments in `[start, end]` at which a clock shows round numbers, at most `most` and a few: `{at, text}`. They are no
 * nearer to each other than `width`, that of a bucket in ms.
 */
export function ticksOf(start, end, zone, most, width = 0) {
  if (!(end > start)) return [];
  const step = STEPS.find((one) => one >= width && (end - start) / one <= most) ?? Math.ceil((end - start) / most / (28 * DAY)) * 28 * DAY;
  const base = step >= 7 * DAY ? MONDAY : 0;
  const found = [];
  let local = Math.ceil((start + offsetOf(zone, start) - base) / step) * step + base;
  for (;;) {
    const at = momentOf(local, zone);
    if (at > end) break;
    if (at >= start && at !== found.at(-1)?.at) found.push({ at, text: tickText(at, zone, step, found.length === 0) });
    local += step;
  }
  return found;
}

/** The moment at which the zone's clock shows this; where the clock skips it, one after that. */
function momentOf(local, zone) {
  const guess = local - offsetOf(zone, local);
  return local - offsetOf(zone, guess);
}

function tickText(at, zone, step, isFirst) {
  const day = formatter(zone, { day: "numeric", month: "short" }).format(at);
  if (step >= DAY) return day;
  const clock = formatter(zone, { hour: "2-digit", minute: "2-digit" }).format(at);
  return isFirst || clock === "00:00" ? `${clock}<br>${day}` : clock;
}

/** A bucket in words: `Sat 28 Nov 2026, 14:00 – 15:00`; of days the day alone. */
export function bucketText(at, until, zone, isDay) {
  const day = (moment) => formatter(zone, { weekday: "short", day: "numeric", month: "short", year: "numeric" }).format(moment).replace(",", "");
  const clock = (moment) => formatter(zone, { hour: "2-digit", minute: "2-digit" }).format(moment);
  return isDay ? day(at) : `${day(at)}, ${clock(at)} – ${clock(until)}`;
}

/** A moment in words, to the minute. */
export function momentText(at, zone) {
  return formatter(zone, { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" }).format(at);
}

/** A UTC day in words. */
export function dayText(at) {
  return formatter("UTC", { day: "numeric", month: "short", year: "numeric" }).format(at);
}

/** The offset of a zone in words: `UTC+1`, `UTC+5:45`. */
export function offsetText(zone, at) {
  const minutes = Math.round(offsetOf(zone, at) / MINUTE);
  if (minutes === 0) return "UTC";
  const size = Math.abs(minutes);
  const rest = size % 60 ? `:${String(size % 60).padStart(2, "0")}` : "";
  return `UTC${minutes < 0 ? "−" : "+"}${Math.floor(size / 60)}${rest}`;
}

/** A moment as a field of type datetime-local holds it, in a zone; "" for none. */
export function fieldOf(at, zone) {
  if (!Number.isFinite(at)) return "";
  return new Date(at + offsetOf(zone, at)).toISOString().slice(0, 16);
}

/** The opposite: the moment at which the zone's clock shows what such a field holds; NaN for none. */
export function momentOfField(text, zone) {
  const local = Date.parse(`${text}Z`);
  return Number.isNaN(local) ? NaN : momentOf(local, zone);
}
