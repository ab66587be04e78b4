/** The log of a conversation: entries in any order, shown once in theirs. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Log } from "../client/chat/log";
import type { Entry } from "../client/wire";
import { entry, texts } from "./entries";
import { dice } from "./fakes";

test("entries come in any order, twice, and are shown once in theirs", () => {
  const log = new Log();
  assert.equal(log.put(entry(3)), "held", "before anything is loaded");
  log.start(1, [entry(1), entry(2)], 2, true);
  assert.deepEqual(texts(log.items), ["text 1", "text 2", "text 3"]);
  assert.equal(log.put(entry(6)), "held");
  assert.deepEqual(log.hole, { after: 3, before: 6 });
  assert.equal(log.put(entry(2)), "known");
  assert.equal(log.put(entry(6)), "known");
  assert.equal(log.put(entry(4)), "new");
  assert.equal(log.put(entry(5)), "new");
  assert.equal(log.high, 6);
  assert.equal(log.hole, null);
  assert.equal(log.put(entry(7, "message", {}, "user_bo", 2)), "other_epoch");
});

test("edits, deletes and reactions change their message, also those that were known before it", () => {
  const log = new Log();
  log.start(1, [entry(4, "edit", { target: 2, text: "better" }), entry(5, "reaction", { target: 2, emoji: "👍", on: true }), entry(6, "delete", { target: 3 })], 6, false);
  log.prepend([entry(1), entry(2), entry(3)], true);
  assert.deepEqual(texts(log.items), ["text 1", "better", ""]);
  const [, second, third] = log.items;
  assert.ok(second?.what === "message" && third?.what === "message");
  assert.equal(second.edited, 4);
  assert.deepEqual(second.reactions, [{ emoji: "👍", users: ["user_bo"] }]);
  assert.ok(third.deleted);
  log.put(entry(7, "reaction", { target: 2, emoji: "👍", on: true }, "user_ann"));
  log.put(entry(8, "reaction", { target: 2, emoji: "👍", on: false }));
  const again = log.item(2);
  assert.deepEqual(again?.what === "message" && again.reactions, [{ emoji: "👍", users: ["user_ann"] }]);
  assert.equal(log.item(1), log.items[0], "what did not change is the same object");
});

test("a message read after its change comes changed, and an older change does not undo that", () => {
  const log = new Log();
  log.start(1, [entry(1, "message", { text: "newest", edited: 5 }), entry(2), entry(3, "edit", { target: 1, text: "older" })], 3, true);
  assert.deepEqual(texts(log.items), ["newest", "text 2"]);
  log.put(entry(4, "message", { deleted: 9 }));
  assert.ok(log.item(4)?.what === "message" && (log.item(4) as { deleted: boolean }).deleted);
});

test("what is known of one's own entry gives way to the entry itself", () => {
  const log = new Log();
  log.start(1, [entry(1)], 1, true);
  assert.equal(log.put(entry(2, "message", { text: "as sent" }), true), "new");
  assert.equal(log.put(entry(2, "message", { text: "as stored" })), "known");
  assert.deepEqual(texts(log.items), ["text 1", "as stored"]);
  log.put(entry(2, "message", { text: "once more" }));
  assert.deepEqual(texts(log.items), ["text 1", "as stored"]);
});

test("any order of arrival gives the same conversation, by seed", () => {
  const all: Entry[] = [];
  for (let seq = 1; seq <= 30; seq += 1) {
    const target = 1 + ((seq * 7) % Math.max(1, seq - 1));
    const kind = seq < 5 ? "message" : (["message", "edit", "reaction", "delete", "message", "reaction"][seq % 6] ?? "message");
    all.push(entry(seq, kind, kind === "message" ? { text: `text ${seq}` } : { target, text: `edit ${seq}`, emoji: "🎉", on: seq % 4 !== 0 }));
  }
  const wanted = new Log();
  wanted.start(1, all, all.length, true);
  for (let seed = 1; seed <= 500; seed += 1) {
    const random = dice(seed);
    const first = 1 + Math.floor(random() * 20);
    const last = first + Math.floor(random() * 6);
    const log = new Log();
    let started = false;
    const later = all.filter((one) => one.seq > last).flatMap((one) => (random() < 0.3 ? [one, one] : [one]));
    later.sort(() => random() - 0.5);
    for (const one of later) {
      if (!started && random() < 0.2) {
        log.start(1, all.slice(first - 1, last), last, first === 1);
        started = true;
      }
      log.put(one);
      if (started && random() < 0.2) log.prepend(all.slice(Math.max(0, log.low - 4), log.low - 1), log.low <= 4);
    }
    if (!started) log.start(1, all.slice(first - 1, last), last, first === 1);
    while (log.low > 1) log.prepend(all.slice(Math.max(0, log.low - 4), log.low - 1), log.low <= 4);
    assert.deepEqual(log.items, wanted.items, `seed ${seed}`);
    assert.ok(log.complete, `seed ${seed}`);
  }
});

test("a long tail beyond a hole is not kept for ever", () => {
  const log = new Log();
  log.start(1, [entry(1)], 1, true);
  for (let seq = 3; seq < 3_000; seq += 1) log.put(entry(seq));
  assert.deepEqual(log.hole, { after: 1, before: 3 });
  log.put(entry(2));
  assert.equal(log.high, 1_001);
});
