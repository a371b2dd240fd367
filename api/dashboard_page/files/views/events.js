// Events as they land.

import { h } from "../dom.js";
import * as format from "../format.js";

const MOST_ROWS = 200;

export const view = {
  id: "events",
  title: "Events",
  render(root, params, context) {
    const body = h("tbody", {});
    root.append(h("div", { class: "card scroll", tabindex: "0", role: "region", "aria-label": "Newest events" }, h("table", {},
      h("thead", {}, h("tr", {}, ["Time", "Type", "User", "Session", "Properties"].map((name) => h("th", { scope: "col" }, name)))), body)));
    return context.follow("events", {}, {
      events(found) {
        for (const event of found.events) {
          body.prepend(h("tr", {}, h("td", {}, format.exactTime(event.timestamp, context.zone)), h("td", {}, event.event_type),
            h("td", {}, event.user_id ?? ""), h("td", {}, event.session_id ?? ""), h("td", {}, h("code", {}, JSON.stringify(event.properties)))));
        }
        while (body.rows.length > MOST_ROWS) body.lastElementChild.remove();
      },
    });
  },
};
