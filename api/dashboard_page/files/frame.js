// What is around every view: navigation, how live the page is, the time zone, light and dark, sign-in, help.
//
// A view gets a `context`:
//   api          api.js: get, post, send, address; errors are ApiError with one sentence in `message`
//   follow       live.js: follow(name, params, handlers, {beats}) -> close
//   chart        charts.js: chart({label, height}) -> {element, draw(traces, layout), dispose}
//   zone         name of the time zone that times are shown in
//   holder       who is there: {key_id, scopes}
//   set          router.set(changes, {redraw}): change settings in the address; redraw (default) renders the view anew
//   href         router.href(id, params): the address of a view
//   showAs       showAs(() => ({request, sql})) -> a button that shows the request as curl, Python and SQL
//   announce     announce(text): say something to people who listen to the page; `isShown` also shows it for a while

import * as api from "./api.js";
import { chart } from "./charts.js";
import { errorState, h, setText } from "./dom.js";
import * as format from "./format.js";
import { follow, onState } from "./live.js";
import { showAsButton } from "./request_dialog.js";
import { openHelp, Shortcuts } from "./shortcuts.js";
import { signInForm } from "./sign_in.js";
import * as theme from "./theme.js";
import { zonePicker } from "./zone.js";

const THEMES = { system: ["◐", "as the system"], light: ["☀", "light"], dark: ["☾", "dark"] };
const SHOWN_FOR = 4000;

export class Frame {
  constructor() {
    this.main = document.getElementById("main");
    this.announcer = document.getElementById("announcer");
    this.dispose = () => {};
    this.update = null;
    this.holder = { key_id: null, scopes: [] };
    this.onSignedIn = () => {};
    this.isLocked = false;
    this.zone = format.ownZone();
  }

  start(router) {
    this.router = router;
    this.links = router.views.map((view) =>
      h("a", { href: router.href(view.id), "data-view": view.id }, view.title));
    this.live = h("span", { class: "live", role: "status", "data-word": "idle" });
    this.zoneHolder = h("div", { class: "bar-zone" });
    this.themeButton = h("button", { type: "button", class: "icon", onclick: () => this.nextTheme() });
    this.signOutButton = h("button", { type: "button", class: "plain", hidden: true, onclick: () => this.signOut() }, "Sign out");
    const help = h("button", { type: "button", class: "icon", "aria-label": "Help and keyboard shortcuts", title: "Help and keyboard shortcuts (?)", onclick: openHelp }, "?");
    document.getElementById("bar").append(
      h("a", { class: "brand", href: router.href(router.views[0].id), "aria-label": "B25 Analytics, overview" },
        h("span", { class: "brand-mark", "aria-hidden": "true" }), h("span", { class: "brand-name" }, "B25 Analytics")),
      h("nav", { "aria-label": "Views" }, h("ul", { class: "views" }, this.links.map((link) => h("li", {}, link)))),
      h("div", { class: "bar-tools" }, this.live, this.zoneHolder, this.themeButton, help, this.signOutButton));
    this.showTheme();
    onState((state) => this.showLive(state));
    new Shortcuts([
      ...router.views.map((view, place) => [String(place + 1), `Go to ${view.title}`, () => router.go(view.id)]),
      ["/", "Go to the first field of the view", () => this.main.querySelector("input, select")?.focus()],
      ["s", "Show as curl, Python, SQL", () => this.main.querySelector("button.show-as")?.click()],
      ["t", "Light or dark", () => this.nextTheme()],
      ["z", "Choose the time zone", () => document.getElementById("zone")?.focus()],
    ]);
  }

  /** Render a view; null: the address names none. */
  show(view, params) {
    if (this.isLocked) return;
    const focused = document.activeElement?.id;
    const update = view && this.shown === view.id ? this.update : null;
    if (!update) this.leave();
    const zone = params.zone && format.isZone(params.zone) ? params.zone : format.ownZone();
    // Kept while it is the same: who types in it keeps the focus.
    if (zone !== this.zone || !this.zoneHolder.hasChildNodes()) this.zoneHolder.replaceChildren(zonePicker(zone, (chosen) => this.router.set({ zone: chosen })));
    this.zone = zone;
    this.signOutButton.hidden = this.holder.key_id === null;
    for (const link of this.links) {
      link.href = this.router.href(link.dataset.view);
      if (link.dataset.view === view?.id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    this.showPlace();
    if (update) {
      update(params, this.context(zone));
      return;
    }
    document.title = `${view?.title ?? "Not found"} · B25 Analytics`;
    const heading = h("h1", { class: "hidden" }, view?.title ?? "Not found");
    const root = h("div", { class: `view view-${view?.id ?? "none"}` });
    this.main.replaceChildren(heading, root);
    if (view === null) {
      root.append(h("div", { class: "state" }, h("p", { class: "state-title" }, "There is no such view"),
        h("p", {}, "Choose one above.")));
      return;
    }
    try {
      const made = view.render(root, params, this.context(zone)) ?? (() => {});
      this.dispose = made.dispose ?? made;
      this.update = made.update ?? null;
    } catch (error) {
      root.replaceChildren(errorState(error));
      throw error;
    } finally {
      if (focused && focused !== "main") document.getElementById(focused)?.focus({ preventScroll: true });
    }
    if (this.shown !== view.id) this.announce(view.title);
    this.shown = view.id;
  }

  /** On a narrow screen the menu is a row that is moved sideways: to where the view is. */
  showPlace() {
    const link = this.links.find((one) => one.hasAttribute("aria-current"));
    const menu = link?.closest("nav");
    if (!menu) return;
    const [own, room] = [link, menu].map((one) => one.getBoundingClientRect());
    menu.scrollLeft += own.left - room.left - (room.width - own.width) / 2;
  }

  context(zone) {
    return {
      api, follow, chart, zone,
      holder: this.holder,
      set: (changes, options) => this.router.set(changes, options),
      href: (id, params) => this.router.href(id, params),
      showAs: showAsButton,
      announce: (text, options) => this.announce(text, options),
    };
  }

  leave() {
    this.dispose();
    this.dispose = () => {};
    this.update = null;
  }

  /** Say something to people who listen; `isShown`: to those who look, too. */
  announce(text, { isShown = false } = {}) {
    setText(this.announcer, text);
    this.announcer.className = isShown ? "toast" : "hidden";
    clearTimeout(this.toastTimer);
    this.toastTimer = setTimeout(() => { this.announcer.className = "hidden"; }, SHOWN_FOR);
  }

  /** In place of the view: what went wrong before there was one. */
  fail(error, again) {
    this.leave();
    this.main.replaceChildren(h("h1", { class: "hidden" }, "B25 Analytics"), errorState(error, again));
  }

  /** The API wants a key: ask for it, once however many requests were refused. */
  askForKey(error) {
    if (this.isLocked) return;
    this.isLocked = true;
    this.leave();
    this.signOutButton.hidden = true;
    document.title = "Sign in · B25 Analytics";
    this.main.replaceChildren(signInForm(error, () => {
      this.isLocked = false;
      this.onSignedIn();
    }));
    this.main.querySelector("input").focus();
  }

  async signOut() {
    this.leave();
    try {
      await api.signOut();
    } finally {
      this.onSignedIn();
    }
  }

  nextTheme() {
    theme.chooseNext();
    this.showTheme();
    this.announce(`Colours: ${THEMES[theme.choice()][1]}`, { isShown: true });
  }

  showTheme() {
    const [sign, text] = THEMES[theme.choice()];
    this.themeButton.replaceChildren(h("span", { "aria-hidden": "true" }, sign));
    this.themeButton.setAttribute("aria-label", `Colours: ${text}. Change`);
    this.themeButton.title = `Colours: ${text} (t)`;
  }

  showLive({ word, text, since }) {
    const when = since ? ` since ${format.clock(since, this.zone)}` : "";
    this.live.dataset.word = word;
    setText(this.live, word === "refused" ? "not live" : text + when);
    this.live.title = word === "refused" ? text : "How live this page is";
  }
}
