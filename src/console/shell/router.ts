/** Which page is shown, kept in the address bar: a history, a table, and links that stay inside. */

import { useEffect, useState } from "preact/hooks";

/** Where the console lives on its origin. */
export const BASE = "/console";

export interface Place {
  /** Below {@link BASE}, without a slash at its end: `/`, `/devices`, `/chat/conv_01j…`. */
  path: string;
  query: URLSearchParams;
}

/** Raised by every change of place; `visits` in {@link usePlace} counts them. */
const MOVED = "nova:moved";
let visits = 0;

export function place(): Place {
  const path = location.pathname.slice(BASE.length).replace(/\/+$/, "");
  return { path: path || "/", query: new URLSearchParams(location.search) };
}

/** The address of a place, for `href`. */
export function to(path: string): string {
  return BASE + path;
}

/** Goes there; `replace` leaves no step back to where we are. */
export function go(path: string, { replace = false } = {}): void {
  const address = to(path);
  if (replace) history.replaceState(null, "", address);
  else if (address !== location.pathname + location.search) history.pushState(null, "", address);
  moved();
}

/** How often somebody moved since the page was loaded; 0 means that the browser has just put the focus itself. */
export function moves(): number {
  return visits;
}

function moved(): void {
  visits += 1;
  dispatchEvent(new Event(MOVED));
}

/** The present place, fresh after every move. */
export function usePlace(): Place {
  const [here, set] = useState(place);
  useEffect(() => {
    const look = () => set(place());
    addEventListener(MOVED, look);
    return () => removeEventListener(MOVED, look);
  }, []);
  return here;
}

/** Lets plain links inside the console move without loading; every other click stays the browser's. */
export function follow_links(): void {
  addEventListener("popstate", moved);
  document.addEventListener("click", (event) => {
    if (event.defaultPrevented || event.button !== 0) return;
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    if (!link || link.target || link.hasAttribute("download") || link.origin !== location.origin) return;
    if (link.pathname !== BASE && !link.pathname.startsWith(`${BASE}/`)) return;
    // A jump within this page, such as "skip to the content".
    if (link.hash && link.pathname === location.pathname) return;
    event.preventDefault();
    go(link.pathname.slice(BASE.length) + link.search);
  });
}

/** The parameters of `path` when it fits `pattern` (`/chat/:conversation`), null when it does not. */
export function fits(pattern: string, path: string): Record<string, string> | null {
  const wanted = pattern.split("/");
  const given = path.split("/");
  if (wanted.length !== given.length) return null;
  const found: Record<string, string> = {};
  for (const [nth, part] of wanted.entries()) {
    const piece = given[nth] ?? "";
    if (part.startsWith(":")) {
      try {
        found[part.slice(1)] = decodeURIComponent(piece);
      } catch {
        return null;
      }
    } else if (part !== piece) return null;
  }
  return found;
}

/** Where a log-in leads: to where somebody wanted to go, if that is a place of ours. */
export function next_of(query: URLSearchParams): string {
  const next = query.get("next") ?? "/";
  return /^\/(?!\/)[\w\-/.?=&%:@]*$/.test(next) ? next : "/";
}
