// Numbers, units and times as people read them.

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 4 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const zones = new Map();

export const NOTHING = "–";

/** A number: short when it is long, with a unit where it has one (percent, ms, s, bytes; "1" and others stay away). */
export function number(value, unit = "") {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  const size = Math.abs(value);
  if (unit === "bytes") return bytes(value);
  const text = size >= 1e5 ? compact.format(value) : size > 0 && size < 0.1 ? small.format(value) : plain.format(value);
  if (unit === "percent") return `${text} %`;
  return unit === "ms" || unit === "s" ? `${text} ${unit}` : text;
}

/** All its digits, for titles and tables. */
export const exact = (value) =>
  value === null || value === undefined ? NOTHING : new Intl.NumberFormat("en", { maximumFractionDigits: 9 }).format(value);

/** A change with its sign, in percent; null where there is nothing to compare with. */
export function change(now, before) {
  if (before === null || before === undefined || now === null || now === undefined || before === 0) return null;
  return (100 * (now - before)) / Math.abs(before);
}

/** A change as text. */
export function changeText(percent) {
  if (percent === null || !Number.isFinite(percent)) return NOTHING;
  const size = Math.abs(percent);
  const text = size >= 1e6 ? compact.format(size) : size >= 100 ? whole.format(size) : size.toFixed(1);
  return `${percent > 0 && text !== "0.0" ? "+" : percent < 0 && text !== "0.0" ? "−" : ""}${text} %`;
}

function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let power = 0;
  while (Math.abs(value) >= 1024 && power < units.length - 1) {
    value /= 1024;
    power += 1;
  }
  return `${power ? value.toFixed(1) : value} ${units[power]}`;
}

/** A length of time, of seconds. */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return NOTHING;
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86400)} d`;
}

function parts(moment, zone) {
  let formatter = zones.get(zone);
  if (formatter === undefined) {
    formatter = new Intl.DateTimeFormat("en-GB", {
      timeZone: zone, hourCycle: "h23", year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit",
      minute: "2-digit", second: "2-digit", fractionalSecondDigits: 3,
    });
    zones.set(zone, formatter);
  }
  const found = {};
  for (const { type, value } of formatter.formatToParts(new Date(moment))) found[type] = value;
  return found;
}

/** The clock and the calendar of a zone at a moment, `2026-11-28 12:00:00`: what the axes of charts are given. */
export function wall(moment, zone) {
  const at = parts(moment, zone);
  return `${at.year}-${at.month}-${at.day} ${at.hour}:${at.minute}:${at.second}`;
}

/** A moment in a zone, to the second, with its day. */
export const time = (moment, zone) => (moment ? wall(moment, zone) : NOTHING);

/** The clock of a moment in a zone, to the second. */
export const clock = (moment, zone) => wall(moment, zone).slice(11);

/** A moment in a zone, to the millisecond. */
export function exactTime(moment, zone) {
  return moment ? `${wall(moment, zone)}.${parts(moment, zone).fractionalSecond}` : NOTHING;
}

/** Whether the browser knows a zone of this name. */
export function isZone(zone) {
  try {
    parts(0, zone);
    return true;
  } catch {
    return false;
  }
}

/** The zone of this machine. */
export const ownZone = () => Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
