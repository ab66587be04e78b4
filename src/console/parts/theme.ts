/** Light or dark: what the system says, unless the reader chose. */

export type Theme = "system" | "light" | "dark";

const KEY = "nova.theme";

/** The reader's choice; `system` when there is none, or when storage is closed to us. */
export function chosenTheme(): Theme {
  try {
    const kept = localStorage.getItem(KEY);
    return kept === "light" || kept === "dark" ? kept : "system";
  } catch {
    return "system";
  }
}

/** Puts the theme on the page; the style sheet does the rest. */
export function wear(theme: Theme): void {
  if (theme === "system") delete document.documentElement.dataset["theme"];
  else document.documentElement.dataset["theme"] = theme;
}

/** Keeps the choice for the next visit and puts it on. */
export function chooseTheme(theme: Theme): void {
  try {
    if (theme === "system") localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, theme);
  } catch {
    // Closed storage costs the memory of the choice, not the choice.
  }
  wear(theme);
}
