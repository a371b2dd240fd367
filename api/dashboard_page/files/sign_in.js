// Asks for a key, exchanges it for a cookie that no script can read, and forgets it.

import { signIn } from "./api.js";
import { h, setText } from "./dom.js";

/** The form; `done` is called once there is a session. */
export function signInForm(error, done) {
  const field = h("input", { id: "key", type: "password", name: "key", autocomplete: "off", spellcheck: "false", required: true, "aria-describedby": "key-help key-error", placeholder: "b25_…" });
  const problem = h("p", { id: "key-error", class: "form-error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, "Sign in");
  if (error.problem?.type?.endsWith("invalid-api-key")) problem.textContent = "The session has ended, or its key holds no longer.";
  const form = h("form", { class: "card sign-in", "aria-labelledby": "sign-in-title",
    onsubmit: async (event) => {
      event.preventDefault();
      button.disabled = true;
      setText(problem, "");
      const key = field.value.trim();
      field.value = "";
      try {
        await signIn(key);
        done();
      } catch (refused) {
        setText(problem, refused.status === 401 ? "This key is unknown, expired or revoked." : refused.message);
        field.focus();
      } finally {
        button.disabled = false;
      }
    } },
    h("h1", { id: "sign-in-title" }, "Sign in"),
    h("p", { id: "key-help", class: "quiet" }, "The API asks for a key. It is exchanged for a cookie that no script can read, and is not kept."),
    h("label", { for: "key" }, "API key"), field, problem, button,
    h("p", { class: "quiet" }, "You have none? Whoever runs the service makes one: ", h("code", {}, "analytics keys create NAME --scope read")));
  return form;
}
