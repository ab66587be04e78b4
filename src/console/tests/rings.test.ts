import assert from "node:assert/strict";
import { test } from "node:test";
import { Rings } from "../client/rings";
import type { Socket } from "../client/socket";
import type { CallNews, Entry } from "../client/wire";
import { FakeTimers } from "./fakes";

function world() {
  const timers = new FakeTimers();
  const heard = new Map<string, (push: never) => void>();
  const asked: [string, object][] = [];
  let answer: unknown = {};
  const socket = {
    on: (type: string, listener: (push: never) => void) => {
      heard.set(type, listener);
      return () => heard.delete(type);
    },
    ask: async (type: string, fields: object) => {
      asked.push([type, fields]);
      return answer;
    },
  } as unknown as Socket;
  const rings = new Rings({ socket, timers, me: "user_bo" });
  let changes = 0;
  rings.watch(() => (changes += 1));
  const call = (fields: Partial<CallNews> = {}): CallNews => ({
    call: "call_1",
    conversation: "conv_1",
    room: "room_1",
    caller: "user_ann",
    media: "video",
    state: "ringing",
    declined: [],
    ring_until: new Date(timers.now() + 45_000).toISOString(),
    ...fields,
  });
  const push = (news: CallNews) => heard.get("call")?.(news as never);
  const entry = (body: Entry["body"]) => heard.get("entry")?.({ kind: "call", body } as never);
  return { rings, timers, asked, call, push, entry, changes: () => changes, answers: (next: unknown) => (answer = next) };
}

test("it rings until it is answered on another device", () => {
  const { rings, call, push } = world();
  push(call());
  assert.equal(rings.ringing.length, 1);
  push(call({ state: "active", answered_by: "user_bo" }));
  assert.equal(rings.ringing.length, 0);
  // An answer that comes behind the push of what happened after it changes nothing.
  push(call());
  assert.equal(rings.in_room("room_1")?.state, "active");
});

test("it stops by itself when its time is over, though nobody says so", async () => {
  const { rings, call, push, timers, changes } = world();
  push(call());
  const before = changes();
  await timers.pass(45_100);
  assert.equal(rings.ringing.length, 0);
  assert.ok(changes() > before, "whoever shows it is told");
});

test("the entry of the conversation stops it too", () => {
  const { rings, call, push, entry } = world();
  push(call());
  entry({ call: "call_1", state: "ended", outcome: "cancelled" });
  assert.equal(rings.ringing.length, 0);
  assert.equal(rings.in_room("room_1")?.outcome, "cancelled");
});

test("one's own calls, those one has declined, and those silenced here do not ring", async () => {
  const { rings, call, push, asked } = world();
  push(call({ call: "call_2", caller: "user_bo" }));
  push(call({ call: "call_3", declined: ["user_bo"] }));
  push(call({ call: "call_4" }));
  assert.deepEqual(rings.ringing.map((one) => one.call), ["call_4"]);
  await rings.decline("call_4");
  assert.deepEqual(asked, [["call.decline", { call: "call_4" }]]);
  assert.equal(rings.ringing.length, 0);
});

test("who calls knows at once where to go", async () => {
  const { rings, call, answers } = world();
  answers(call({ caller: "user_bo" }));
  const { room } = await rings.start("conv_1", "audio");
  assert.equal(rings.in_room(room)?.call, "call_1");
});
