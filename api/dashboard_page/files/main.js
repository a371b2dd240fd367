// Starts the page: the frame at once, then the view that the address names, or the sign-in if the API wants a key.

import * as api from "./api.js";
import { Frame } from "./frame.js";
import { views } from "./registry.js";
import { Router } from "./router.js";

const frame = new Frame();
const router = new Router(views, (view, params) => frame.show(view, params));
frame.start(router);
api.connect({
  onSignedOut: (error) => frame.askForKey(error),
  onWait: (seconds) => frame.announce(`The API asks to wait ${seconds} s.`),
});

async function begin() {
  try {
    frame.holder = await api.session();
    router.tell();
  } catch (error) {
    if (error.status !== 401) frame.fail(error, begin);
  }
}

frame.onSignedIn = begin;
begin();
