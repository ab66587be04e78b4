/** How a call is to be, and how it stands with it. */

export interface CallOptions {
  /** Media goes through a TURN server only: to hide one's address, or to find out whether that works. */
  relay_only?: boolean;
}

export type CallState =
  | { name: "idle" }
  | { name: "joining" }
  | { name: "waiting" }
  | { name: "in" }
  | { name: "reconnecting" }
  | { name: "ended"; reason: string };
