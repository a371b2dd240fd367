// The address says what is shown: /dashboard/<view>?<settings>. Every view and every setting is in it, so it can be shared.

const ROOT = "/dashboard";
const ZONE = "zone";
const ZONE_OF_API = "time_zone"; // how the API calls it: an address of the API can be taken for one of the page

export class Router {
  /** `views` by their order; `onChange(view, params)` is called with what the address says, null for a view that is none. */
  constructor(views, onChange) {
    this.views = views;
    this.onChange = onChange;
    addEventListener("popstate", () => this.tell());
    document.addEventListener("click", (event) => this.follow(event));
  }

  /** What the address says now; a setting that it names several times is a list. */
  get current() {
    const id = location.pathname.slice(ROOT.length).replace(/^\/|\/$/g, "") || this.views[0].id;
    const view = this.views.find((one) => one.id === id) ?? null;
    const params = {};
    const query = new URLSearchParams(location.search);
    for (const name of new Set(query.keys())) {
      const all = query.getAll(name);
      params[name] = all.length > 1 ? all : all[0];
    }
    const { [ZONE_OF_API]: zone, ...rest } = params;
    const settings = zone && !rest[ZONE] ? { ...rest, [ZONE]: zone } : rest;
    return { view, params: settings };
  }

  /** The address of a view; what holds for all views, the zone, is kept. */
  href(id, params = {}) {
    const here = new URLSearchParams(location.search);
    const query = new URLSearchParams();
    const zone = here.get(ZONE) ?? here.get(ZONE_OF_API);
    if (zone && !(ZONE in params)) query.set(ZONE, zone);
    for (const [name, value] of Object.entries(params)) {
      for (const one of [value].flat()) {
        if (one !== null && one !== undefined && one !== "") query.append(name, one);
      }
    }
    const text = query.toString();
    return `${ROOT}/${id}${text ? `?${text}` : ""}`;
  }

  /** Go to a view. */
  go(id, params = {}) {
    history.pushState(null, "", this.href(id, params));
    this.tell();
  }

  /** Change settings of the view that is shown; "" and null remove one. `redraw: false`: the view has done it itself. */
  set(changes, { redraw = true } = {}) {
    const { view, params } = this.current;
    history[redraw ? "pushState" : "replaceState"](null, "", this.href(view?.id ?? this.views[0].id, { ...params, ...changes }));
    if (redraw) this.tell();
  }

  tell() {
    const { view, params } = this.current;
    this.onChange(view, params);
  }

  follow(event) {
    const link = event.target.closest?.("a[href]");
    if (!link || event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const to = new URL(link.href);
    const isView = to.pathname === ROOT || to.pathname.startsWith(`${ROOT}/`);
    if (to.origin !== location.origin || !isView || link.target || link.hasAttribute("download") || to.hash) return;
    event.preventDefault();
    history.pushState(null, "", to);
    this.tell();
  }
}
