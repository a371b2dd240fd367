// The views, in the order of the navigation. A view is a module that exports `view`:
//
//   export const view = {
//     id: "overview",          // its address: /dashboard/overview
//     title: "Overview",       // in the navigation and in the title of the window
//     render(root, params, context) {   // fill `root`, an empty element; `params`: settings in the address, texts
//       …                               // `context`: see frame.js
//       return () => { … };             // dispose: close streams, stop timers, drop charts; or {dispose, update}, where
//                                       // update(params, context) takes other settings without rendering anew
//     },
//   };
//
// docs/dashboard.md, "Adding a view", walks through it.

import { view as deadLetters } from "./views/dead_letters.js";
import { view as events } from "./views/events.js";
import { view as explorer } from "./views/explorer.js";
import { view as ledger } from "./views/ledger.js";
import { view as overview } from "./views/overview.js";
import { view as pipeline } from "./views/pipeline.js";
import { view as restatements } from "./views/restatements.js";
import { view as sources } from "./views/sources.js";

export const views = [overview, explorer, events, pipeline, deadLetters, sources, ledger, restatements];
