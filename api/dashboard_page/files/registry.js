// The views, in the order of the navigation. A view is a module that exports `view`:
//
//   export const view = {
//     id: "overview",          // its address: /dashboard/overview
//     title: "Overview",       // in the navigation and in the title of the window
//     render(root, params, context) {   // fill `root`, an empty element; `params`: settings in the address, texts
//       …                               // `context`: see frame.js
//       return () => { … };             // dispose: close streams, stop timers, drop charts
//     },
//   };
//
// docs/dashboard.md, "Adding a view", walks through it.

import { view as events } from "./views/events.js";
import { view as overview } from "./views/overview.js";

export const views = [overview, events];
