/** Hints: who types, who is here, who has read. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Presences, Receipts, Typing, Writing } from "../client/chat/hints";
import { FakeTimers, settle } from "./fakes";

test("typing ends by itself, and is told seldom", async () => {
  const timers = new FakeTimers();
  let changes = 0;
  const typing = new Typing(timers, () => (changes += 1));
  typing.put("conv_1", "user_bo", true);
  await timers.pass(4_000);
  typing.put("conv_1", "user_bo", true);
  await timers.pass(4_000);
  assert.deepEqual(typing.of("conv_1"), ["user_bo"]);
  await timers.pass(2_000);
  assert.deepEqual([typing.of("conv_1"), changes], [[], 2]);

  const told: boolean[] = [];
  const writing = new Writing(timers, (on) => told.push(on));
  for (let nth = 0; nth < 10; nth += 1) {
    writing.keyed(false);
    await timers.pass(500);
  }
  assert.deepEqual(told, [true, true]);
  await timers.pass(5_000);
  writing.keyed(false);
  writing.keyed(true);
  writing.keyed(false);
  writing.sent();
  await timers.pass(10_000);
  assert.deepEqual(told, [true, true, false, true, false, true]);
});

test("presence watches what is looked at, once, and again after a new connection", async () => {
  const timers = new FakeTimers();
  const asked: string[] = [];
  const presences = new Presences({ timers, changed: () => {}, ask: async (watch) => (asked.push(watch.join()), watch.map((user) => ({ user, state: "online" }))) });
  const [list, page] = [{}, {}];
  presences.want(list, ["user_a", "user_b"]);
  presences.want(page, ["user_b", "user_c"]);
  await timers.pass(1);
  assert.deepEqual(asked, ["user_a,user_b,user_c"]);
  assert.equal(presences.of("user_c")?.state, "online");
  presences.put({ user: "user_c", state: "offline" });
  presences.put({ user: "user_x", state: "online" });
  assert.deepEqual([presences.of("user_c")?.state, presences.of("user_x")], ["offline", null]);
  presences.want(page, []);
  await timers.pass(1);
  assert.equal(presences.of("user_c"), null);
  presences.disconnected();
  presences.connected();
  await settle();
  assert.deepEqual(asked, ["user_a,user_b,user_c", "user_a,user_b", "user_a,user_b"]);
});

test("receipts only go forward, and who read has it", () => {
  const receipts = new Receipts();
  assert.ok(receipts.put("conv_1", "user_bo", 3, 2));
  assert.ok(!receipts.put("conv_1", "user_bo", 2, 1));
  assert.ok(receipts.put("conv_1", "user_bo", undefined, 5));
  assert.deepEqual(receipts.of("conv_1").get("user_bo"), { delivered: 5, read: 5 });
});
