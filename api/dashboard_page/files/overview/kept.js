// Points that are kept between reads: the whole range once, then its last buckets again and again.

import { OTHER } from "../others.js";

/** The series of one query, each a map from the start of a bucket (ms) to its point. Bounded by the range. */
export class Kept {
  /**
   * `isFolded`: series beyond the first ones are added up as one, as `top` of the API does. `largest`: as many series
   * stand by themselves, those whose sums are the furthest from zero; `at` adds up the others.
   */
  constructor({ isFolded = false, largest = Infinity } = {}) {
    this.series = new Map();
    this.isFolded = isFolded;
    this.largest = largest;
    this.names = []; // the largest first, the rest last; who has a place keeps it, so that colours stay
  }

  /** Take an answer: `whole` replaces everything, otherwise the buckets from the first one on. */
  take(result, { whole, since }) {
    if (whole) this.series.clear();
    const touched = new Map();
    for (const point of result.data_points) {
      const at = Date.parse(point.timestamp);
      const name = this.nameOf(point.dimensions, whole);
      if (!touched.has(name)) touched.set(name, new Map());
      const before = touched.get(name).get(at);
      touched.get(name).set(at, before ? { ...point, value: before.value + point.value } : point);
    }
    for (const [name, points] of touched) {
      if (!this.series.has(name)) this.series.set(name, new Map());
      const kept = this.series.get(name);
      for (const [at, point] of points) kept.set(at, point);
    }
    for (const kept of this.series.values()) {
      for (const at of kept.keys()) if (at < since) kept.delete(at);
    }
    this.rank();
  }

  nameOf(dimensions, whole) {
    const name = Object.values(dimensions).map((value) => value ?? "none").join(" · ");
    return whole || !this.isFolded || this.series.has(name) || !this.series.has(OTHER) ? name : OTHER;
  }

  /** Every start of a bucket that some series has, in order. */
  get times() {
    return [...new Set([...this.series.values()].flatMap((kept) => [...kept.keys()]))].sort((a, b) => a - b);
  }

  rank() {
    const size = (name) => [...this.series.get(name).values()].reduce((sum, point) => sum + Math.abs(point.value ?? 0), 0);
    const before = this.names.filter((name) => this.series.has(name) && name !== OTHER);
    const fresh = [...this.series.keys()].filter((name) => !before.includes(name) && name !== OTHER);
    fresh.sort((a, b) => size(b) - size(a) || (a < b ? -1 : 1));
    const all = [...before, ...fresh];
    const chosen = all.length > this.largest ? this.furthest(all, before) : all;
    this.names = [...chosen, ...(this.series.has(OTHER) || chosen.length < all.length ? [OTHER] : [])];
  }

  /** The `largest` of some names; who had a place keeps it, and who is new takes one that has become free. */
  furthest(all, before) {
    const sum = (name) => [...this.series.get(name).values()].reduce((total, point) => total + (point.value ?? 0), 0);
    const size = new Map(all.map((name) => [name, Math.abs(sum(name))]));
    const chosen = [...all].sort((a, b) => size.get(b) - size.get(a) || (a < b ? -1 : 1)).slice(0, this.largest);
    const fresh = chosen.filter((name) => !before.includes(name));
    return [...before.map((name) => (chosen.includes(name) ? name : fresh.shift())).filter(Boolean), ...fresh];
  }

  /** The point of a series in a bucket, or undefined. */
  at(name, time) {
    if (name !== OTHER || this.largest === Infinity) return this.series.get(name)?.get(time);
    const shown = new Set(this.names.filter((one) => one !== OTHER));
    const others = [...this.series].filter(([one, points]) => !shown.has(one) && points.has(time));
    return others.length ? { value: others.reduce((total, [, points]) => total + (points.get(time).value ?? 0), 0) } : undefined;
  }
}

/** How a series is called where people read it. */
export const titleOf = (name) => (name === OTHER ? "others" : name || "total");
