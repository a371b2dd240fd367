// The time zone that times are shown in; it is in the address, so whoever opens it sees the same clock.

import { h } from "./dom.js";
import { isZone, ownZone } from "./format.js";

/** A field with the zones that the browser knows; `onchosen` gets a name, null for the zone of this machine. */
export function zonePicker(zone, onchosen) {
  const names = Intl.supportedValuesOf?.("timeZone") ?? [];
  const field = h("input", { id: "zone", list: "zones", value: zone, autocomplete: "off", spellcheck: "false", "aria-label": "Time zone",
    onfocus: () => field.select(),
    onchange: () => {
      const chosen = field.value.trim() || ownZone();
      const isKnown = isZone(chosen);
      field.setAttribute("aria-invalid", String(!isKnown));
      if (isKnown) onchosen(chosen === ownZone() ? null : chosen);
    } });
  // As wide as its name and the sign at its end; the style sheet says how much there is room for.
  field.style.width = `calc(${Math.max(zone.length, 8)} * .95ch + 2.4em)`;
  return h("div", { class: "zone", title: "Times are shown in this zone (z)" }, field,
    h("datalist", { id: "zones" }, ["UTC", ...names].map((name) => h("option", { value: name }))));
}
