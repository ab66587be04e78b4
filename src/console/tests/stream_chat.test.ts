/** The chat beside a broadcast. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Refused, StreamChat, type Entry, type SocketState, type StreamChatParts } from "../client";
import { settle } from "./fakes";

const ONLINE = { name: "online" } as SocketState;

/** A socket that answers what the test says, and a history. */
function world(answers: Record<string, (fields: never) => unknown>, before: Entry[] = []) {
  const heard = new Map<string, (push: never) => void>();
  const asked: [string, Record<string, unknown>][] = [];
  let state: SocketState = ONLINE;
  let watching: (state: SocketState) => void = () => {};
  const socket = {
    get state() {
      return state;
    },
    watch: (changed: (state: SocketState) => void) => {
      watching = changed;
      return () => {};
    },
    on: (type: string, push: (push: never) => void) => {
      heard.set(type, push);
      return () => heard.delete(type);
    },
    ask: async (type: string, fields: Record<string, unknown>) => {
      asked.push([type, fields]);
      return answers[type]?.(fields as never) ?? {};
    },
  } as unknown as StreamChatParts["socket"];
  const chat = new StreamChat({ stream: "stream_1", socket, conversations: { entries: async () => before }, changed: () => {} });
  return {
    chat,
    asked,
    push: (type: string, push: unknown) => heard.get(type)?.(push as never),
    become: (now: SocketState) => {
      state = now;
      watching(now);
    },
  };
}

const watching = () => ({ stream: "stream_1", chat: "conv_1", viewers: 3 });
const entry = (seq: number, kind: string, body: Record<string, unknown>, conversation = "conv_1"): Entry => ({ conversation, epoch: 1, seq, kind, sender: "user_1", at: "2026-11-21T12:00:00Z", body });

test("whoever comes in sees the latest lines and then what is said", async () => {
  const { chat, push, asked } = world({ watch: watching }, [entry(7, "message", { text: "before" })]);
  chat.start();
  push("entry", entry(8, "message", { text: "too early to know the chat" }));
  await settle();
  assert.deepEqual([chat.state, chat.viewers], ["open", 3]);
  push("entry", entry(9, "message", { text: "hello" }));
  push("entry", entry(9, "message", { text: "hello" }));
  push("entry", entry(10, "message", { text: "elsewhere" }, "conv_2"));
  push("entry", entry(11, "edit", { target: 7, text: "earlier" }));
  push("viewers", { stream: "stream_1", count: 4 });
  push("viewers", { stream: "stream_2", count: 9 });
  assert.deepEqual(chat.lines.map((line) => [line.seq, line.text, line.edited]), [[7, "earlier", true], [9, "hello", false]]);
  assert.equal(chat.viewers, 4);
  push("entry", entry(12, "delete", { target: 9 }));
  assert.deepEqual(chat.lines.map((line) => line.seq), [7]);
  await chat.say("well");
  assert.deepEqual([asked.at(-1)?.[0], asked.at(-1)?.[1]["conversation"], asked.at(-1)?.[1]["text"]], ["send", "conv_1", "well"]);
  chat.stop();
  assert.deepEqual(asked.at(-1), ["unwatch", { stream: "stream_1" }]);
});

test("it comes in again when the connection was away, and keeps no more than can be read", async () => {
  const { chat, push, become, asked } = world({ watch: watching });
  chat.start();
  await settle();
  for (let seq = 1; seq <= 250; seq += 1) push("entry", entry(seq, "message", { text: "x" }));
  assert.deepEqual([chat.lines.length, chat.lines[0]?.seq], [200, 51]);
  become({ name: "offline", reason: "lost", code: null, retry_at: 0 });
  assert.equal(chat.state, "connecting");
  become(ONLINE);
  await settle();
  assert.deepEqual([chat.state, chat.lines.length, asked.filter(([type]) => type === "watch").length], ["open", 200, 2]);
});

test("a chat that is not there is told with its reason", async () => {
  const { chat } = world({
    watch: () => {
      throw new Refused("not_found", "there is no such stream");
    },
  });
  chat.start();
  await settle();
  assert.deepEqual([chat.state, chat.refusal?.code], ["closed", "not_found"]);
  await assert.rejects(chat.say("hello"), Refused);
});
