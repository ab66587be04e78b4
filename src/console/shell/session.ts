/** The one client of this page, and who is logged in. */

import { useEffect, useState } from "preact/hooks";
import { Nova, type Ending, type Session } from "../client";
import { say } from "../parts/announce";
import { go } from "./router";

export const nova = new Nova();

let last_ending: Ending | null = null;
nova.tokens.watch((session, ending) => {
  last_ending = session ? null : ending;
});

/** Logs this device out and leads to where one logs in. */
export async function leave(): Promise<void> {
  const told = await nova.sessions.log_out();
  go("/login", { replace: true });
  if (!told) say("You are logged out here. The engine could not be told; this device stays in your list until you remove it there.");
}

/** The present session, fresh after every change by this tab or another. */
export function useSession(): Session | null {
  const [session, set] = useState(nova.tokens.session);
  useEffect(() => nova.tokens.watch((changed) => set(changed)), []);
  return session;
}

/** Why the last session of this tab ended, in words; null when there is nothing to say. */
export function ending_words(): string | null {
  switch (last_ending) {
    case null:
      return null;
    case "logged_out":
      return "You are logged out.";
    case "deleted":
      return "Your account is deleted. Thank you for having been here.";
    case "session_revoked":
      return "This device was logged out from another one. Log in again if that was you.";
    case "account_suspended":
      return "This account is suspended. Ask whoever runs this engine.";
    default:
      return "Your session has ended. Log in again to go on.";
  }
}
