/** Entries as the engine pushes them, and what is shown of them. */

import type { Item } from "../client/chat/log";
import type { Entry } from "../client/wire";

export function entry(seq: number, kind = "message", body: Record<string, unknown> = { text: `text ${seq}` }, sender = "user_bo", epoch = 1): Entry {
  return { conversation: "conv_1", epoch, seq, kind, sender, at: new Date(seq * 60_000).toISOString(), body };
}

export function texts(items: readonly Item[]): string[] {
  return items.map((item) => (item.what === "message" ? item.text : `(${item.kind})`));
}
