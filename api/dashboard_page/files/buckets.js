// The buckets of metrics.

const SECONDS = { "1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400 };

/** The width of buckets in ms; of days the usual one. */
export const widthOf = (interval) => SECONDS[interval] * 1000;
