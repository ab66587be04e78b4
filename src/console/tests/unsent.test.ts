/** What is unsent: said one after the other, kept over a reload, told when it cannot be said. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { UnsentQueue, type Unsent } from "../client/chat/unsent";
import { Refused } from "../client/problem";
import type { Sent } from "../client/wire";
import { fake_storage, FakeTimers, settle } from "./fakes";

function unsent_world(storage = fake_storage()) {
  const timers = new FakeTimers();
  const asked: { type: string; fields: Record<string, unknown>; answer(seq: number): void; refuse(code: string, retry_after_ms?: number): void }[] = [];
  const carrier = {
    ready: true,
    say: ({ type, fields, conversation, client_msg_id }: Unsent) =>
      new Promise<Sent>((resolve, reject) =>
        asked.push({
          type,
          fields: { ...fields, client_msg_id },
          answer: (seq) => resolve({ conversation, client_msg_id, epoch: 1, seq, at: "", duplicate: false }),
          refuse: (code, retry_after_ms) => reject(new Refused(code, code, retry_after_ms ?? null)),
        }),
      ),
  };
  const make = () => new UnsentQueue({ user: "user_ann", carrier, timers, storage, changed: () => {}, confirmed: () => {} });
  return { timers, asked, carrier, storage, make };
}

test("things are said one after the other in each conversation, and a reload forgets none", async () => {
  const { asked, make, carrier, storage } = unsent_world();
  carrier.ready = false;
  const queue = make();
  const ids = ["a", "b"].map((text) => queue.add("send", "conv_1", { text }).client_msg_id);
  queue.add("send", "conv_2", { text: "c" });
  assert.deepEqual([asked.length, queue.waiting, storage.length], [0, 3, 3]);
  queue.stop();

  carrier.ready = true;
  const next = make();
  next.pump();
  assert.deepEqual(asked.map((one) => one.fields["text"]), ["a", "c"]);
  assert.equal(asked[0]?.fields["client_msg_id"], ids[0], "the name stays the same");
  asked[0]?.answer(1);
  await settle();
  assert.deepEqual(asked.map((one) => one.fields["text"]), ["a", "c", "b"]);
  asked[1]?.answer(1);
  asked[2]?.answer(2);
  await settle();
  assert.equal(storage.length, 0);
  assert.deepEqual(next.of("conv_1").map((one) => one.sent?.seq), [1, 2]);
  next.arrived(ids[0] ?? "");
  assert.equal(next.of("conv_1").length, 1);
});

test("what passes is tried again in its turn; what does not is told and waits for a person", async () => {
  const { asked, make, timers } = unsent_world();
  const queue = make();
  const { client_msg_id } = queue.add("send", "conv_1", { text: "a" });
  queue.add("send", "conv_1", { text: "b" });
  asked[0]?.refuse("overloaded", 5_000);
  await timers.pass(4_999);
  assert.equal(asked.length, 1);
  await timers.pass(1);
  assert.deepEqual(asked.map((one) => one.fields["text"]), ["a", "a"]);
  asked[1]?.refuse("not_a_member");
  await settle();
  assert.deepEqual(asked.map((one) => one.fields["text"]), ["a", "a", "b"]);
  assert.equal(queue.of()[0]?.failed?.code, "not_a_member");
  asked[2]?.answer(1);
  await settle();
  queue.retry(client_msg_id);
  assert.equal(asked.at(-1)?.fields["text"], "a");
  asked.at(-1)?.refuse("not_a_member");
  await settle();
  queue.discard(client_msg_id);
  assert.equal(queue.waiting, 0);
});

test("the queue has an end, and rubbish in the storage is no message", () => {
  const { make, storage, carrier } = unsent_world();
  storage.setItem("nova.unsent.user_ann.1", "{");
  storage.setItem("nova.unsent.user_bo.1", JSON.stringify({ client_msg_id: "1", conversation: "c", type: "send", fields: {}, written_at: 1 }));
  carrier.ready = false;
  const queue = make();
  assert.equal(queue.of().length, 0);
  for (let nth = 0; nth < 200; nth += 1) queue.add("send", "conv_1", { text: String(nth) });
  assert.throws(() => queue.add("send", "conv_1", { text: "one more" }), { code: "outbox_full" });
});
