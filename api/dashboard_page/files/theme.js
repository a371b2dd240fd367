// Light and dark: what the person chose, else what the system says.

const listeners = new Set();
const system = matchMedia("(prefers-color-scheme: dark)");
const CHOICES = ["system", "light", "dark"];
let chosen = stored();

function stored() {
  try {
    const found = localStorage.getItem("theme");
    return CHOICES.includes(found) ? found : "system";
  } catch {
    return "system";
  }
}

function apply() {
  const name = isDark() ? "dark" : "light";
  if (document.documentElement.dataset.theme === name) return;
  document.documentElement.dataset.theme = name;
  for (const listener of listeners) listener();
}

/** What was chosen: system, light or dark. */
export const choice = () => chosen;

/** Whether the page is dark now. */
export const isDark = () => chosen === "dark" || (chosen === "system" && system.matches);

/** The next choice after the present one; it is remembered on this machine alone. */
export function chooseNext() {
  chosen = CHOICES[(CHOICES.indexOf(chosen) + 1) % CHOICES.length];
  try {
    localStorage.setItem("theme", chosen);
  } catch {
    // Storage is switched off.
  }
  apply();
  return chosen;
}

/** Call `listener` whenever the colours change; the answer ends that. */
export function onChange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** The value of a custom property of the style sheet, such as `--ink`. */
export const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

system.addEventListener("change", apply);
