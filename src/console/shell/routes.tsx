/**
 * The table of all pages. A page is one line here and one file in `pages/`; with `nav` it stands in the navigation.
 * Pages that bring much with them are loaded when they are opened: `page: lazy(() => import("../pages/…"))`.
 */

import type { ComponentType } from "preact";
import type { IconName } from "../parts/icon";
import { lazy } from "../parts/lazy";
import { Devices } from "../pages/devices";
import { LogIn } from "../pages/log_in";
import { Overview } from "../pages/overview";
import { Profile } from "../pages/profile";
import { SignUp } from "../pages/sign_up";
import { fits } from "./router";

export interface PageProps {
  /** What stood at the `:names` of the path. */
  params: Record<string, string>;
}

export interface Route {
  path: string;
  page: ComponentType<PageProps>;
  /** Who may see it: people who are logged in, only those who are not, or everybody. */
  for: "members" | "guests" | "everybody";
  nav?: { label: string; icon: IconName };
}

const Chat = lazy(async () => (await import("../pages/chat")).ChatPage);

const PersonPage = lazy(async () => (await import("../pages/person")).PersonPage);
const FollowsPage = lazy(async () => (await import("../pages/follows")).FollowsPage);

export const ROUTES: Route[] = [
  { path: "/", page: Overview, for: "members", nav: { label: "Overview", icon: "home" } },
  {
    path: "/feed",
    page: lazy(async () => (await import("../pages/feed")).FeedPage),
    for: "members",
    nav: { label: "Feed", icon: "feed" },
  },
  { path: "/posts/:post", page: lazy(async () => (await import("../pages/post")).PostPage), for: "members" },
  { path: "/people/:user", page: PersonPage, for: "members" },
  { path: "/people/:user/:list", page: FollowsPage, for: "members" },
  { path: "/chat", page: Chat, for: "members", nav: { label: "Chat", icon: "chat" } },
  { path: "/chat/:conversation", page: Chat, for: "members" },
  { path: "/live", page: lazy(async () => (await import("../pages/live")).Live), for: "members", nav: { label: "Live", icon: "live" } },
  { path: "/live/studio", page: lazy(async () => (await import("../pages/live/studio")).Studio), for: "members" },
  { path: "/live/studio/:stream", page: lazy(async () => (await import("../pages/live/desk")).Desk), for: "members" },
  { path: "/live/:stream/recordings/:recording", page: lazy(async () => (await import("../pages/live/recording")).RecordingPage), for: "members" },
  { path: "/live/:stream", page: lazy(async () => (await import("../pages/live/watch")).Watch), for: "members" },
  { path: "/calls", page: lazy(async () => (await import("../pages/calls")).CallsPage), for: "members", nav: { label: "Calls", icon: "camera" } },
  { path: "/calls/:room", page: lazy(async () => (await import("../pages/calls/call")).CallPage), for: "members" },
  { path: "/profile", page: Profile, for: "members", nav: { label: "Profile", icon: "person" } },
  {
    path: "/security",
    page: lazy(async () => (await import("../pages/security")).Security),
    for: "members",
    nav: { label: "Security", icon: "shield" },
  },
  { path: "/devices", page: Devices, for: "members", nav: { label: "Devices", icon: "devices" } },
  { path: "/login", page: LogIn, for: "guests" },
  { path: "/signup", page: SignUp, for: "guests" },
];

/** The page at `path`, or null. */
export function route_at(path: string): { route: Route; params: Record<string, string> } | null {
  for (const route of ROUTES) {
    const params = fits(route.path, path);
    if (params) return { route, params };
  }
  return null;
}
