/** What is round every page: the navigation, the way to the content, and who may see what. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Icon, Mark } from "../parts/icon";
import { Announcer } from "../parts/announce";
import { ThemeSwitch } from "../parts/theme_switch";
import { Missing } from "../pages/missing";
import { go, next_of, to, usePlace } from "./router";
import { Ringing } from "./ringing";
import { ROUTES, route_at } from "./routes";
import { leave, useSession } from "./session";

export function Shell() {
  const { path, query } = usePlace();
  const session = useSession();
  const found = route_at(path);

  const away =
    found?.route.for === "members" && !session
      ? `/login${path === "/" ? "" : `?next=${encodeURIComponent(path + location.search)}`}`
      : found?.route.for === "guests" && session
        ? next_of(query)
        : null;
  useEffect(() => {
    if (away !== null) go(away, { replace: true });
  }, [away]);

  const page = away !== null ? null : found ? <found.route.page params={found.params} key={path} /> : <Missing />;
  return (
    <>
      <a class="skip" href="#content">
        Skip to the content
      </a>
      {session ? <Frame path={path}>{page}</Frame> : <Porch>{page}</Porch>}
      <Announcer />
    </>
  );
}

/** For people who are logged in: navigation beside the page, above it on a phone. */
function Frame({ path, children }: { path: string; children: preact.ComponentChildren }) {
  const [open, set_open] = useState(false);
  const toggle = useRef<HTMLButtonElement>(null);
  useEffect(() => set_open(false), [path]);

  const on_key = (event: KeyboardEvent) => {
    if (event.key === "Escape" && open) {
      set_open(false);
      toggle.current?.focus();
    }
  };
  return (
    <div class="frame">
      <header class="bar" onKeyDown={on_key}>
        <a class="brand" href={to("/")}>
          <Mark />
          <span>Nova</span>
        </a>
        <button
          ref={toggle}
          type="button"
          class="quiet menu"
          aria-expanded={open}
          aria-controls="navigation"
          onClick={() => set_open(!open)}
        >
          <Icon name={open ? "close" : "menu"} />
          <span>Menu</span>
        </button>
        <div id="navigation" class={open ? "panel open" : "panel"}>
          <nav aria-label="Main">
            <ul>
              {ROUTES.filter((route) => route.nav).map((route) => (
                <li key={route.path}>
                  <a href={to(route.path)} aria-current={path === route.path ? "page" : path.startsWith(`${route.path}/`) ? "true" : undefined}>
                    <Icon name={route.nav?.icon ?? "home"} />
                    {route.nav?.label}
                  </a>
                </li>
              ))}
            </ul>
          </nav>
          <div class="foot">
            <a href="/docs" class="plain">
              <Icon name="book" />
              API documentation
            </a>
            <button type="button" class="plain" id="log-out" onClick={() => void leave()}>
              <Icon name="leave" />
              Log out
            </button>
            <ThemeSwitch />
          </div>
        </div>
      </header>
      <main id="content" tabIndex={-1}>
        {children}
      </main>
      <Ringing />
    </div>
  );
}

/** For people who are not: one column in the middle. */
function Porch({ children }: { children: preact.ComponentChildren }) {
  return (
    <div class="porch">
      <header>
        <a class="brand" href={to("/")}>
          <Mark />
          <span>Nova</span>
        </a>
      </header>
      <main id="content" tabIndex={-1}>
        {children}
      </main>
      <footer>
        <a href="/docs">API documentation</a>
        <ThemeSwitch />
      </footer>
    </div>
  );
}
