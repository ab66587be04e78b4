/** The inbox: which conversation comes first, and what is unread in it. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Inbox, unread_of } from "../client/chat/inbox";
import type { Conversation } from "../client/conversations";
import { entry } from "./entries";

function conversation(id: string, more: Partial<Conversation> = {}): Conversation {
  return { id, kind: "group", title: id, epoch: 1, last_seq: 0, last_at: "1960-01-01T00:00:00.000Z", read_seq: 0, joined_seq: 0, unread: 0, role: "member", created_at: "1960-01-01T00:00:00.000Z", ...more };
}

test("the inbox puts the liveliest first and counts what is unread", () => {
  const inbox = new Inbox("user_ann");
  inbox.learn(conversation("conv_1", { last_seq: 2, read_seq: 2, last_entry: entry(2), last_at: entry(2).at }));
  inbox.learn(conversation("conv_2"));
  assert.deepEqual(inbox.sorted.map((one) => one.id), ["conv_1", "conv_2"]);
  assert.equal(inbox.put({ ...entry(1), conversation: "conv_2", at: "2026-01-01T00:00:00.000Z" }), true);
  assert.deepEqual(inbox.sorted.map((one) => [one.id, unread_of(one)]), [["conv_2", 1], ["conv_1", 0]]);
  assert.equal(inbox.put({ ...entry(1), conversation: "conv_3" }), false, "nobody knows it yet");
  assert.equal(inbox.put(entry(3, "message", {}, "user_bo", 2)), false, "another history");
  inbox.read("conv_2", 1);
  inbox.read("conv_2", 0);
  assert.equal(inbox.unread(0), 0);
  // A later look at the server does not undo what was pushed meanwhile.
  inbox.put(entry(3));
  inbox.learn(conversation("conv_1", { last_seq: 2, read_seq: 1, last_entry: entry(2), last_at: entry(2).at }));
  assert.deepEqual([inbox.get("conv_1")?.top, inbox.get("conv_1")?.read, inbox.get("conv_1")?.last?.seq], [3, 2, 3]);
});

test("what one says oneself is not unread", () => {
  const inbox = new Inbox("user_ann");
  inbox.learn(conversation("conv_1"));
  inbox.put(entry(1, "message", { text: "mine" }, "user_ann"));
  assert.equal(inbox.unread(0), 0);
  inbox.put(entry(2));
  assert.equal(inbox.unread(0), 1);
  inbox.put(entry(3, "reaction", { target: 2, emoji: "👍", on: true }, "user_ann"));
  assert.equal(inbox.unread(0), 0, "who writes has seen what came before");
  assert.equal(inbox.get("conv_1")?.last?.kind, "reaction");
});
