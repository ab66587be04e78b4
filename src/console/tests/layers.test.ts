/** Layers of a camera that are made. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Layers } from "../client/calls/layers";
import { FakeTimers, settle } from "./fakes";

/** A sender as browsers have it: changes take a while, and only what was given last is taken back. */
class FakeSender {
  active = [true, true, true];
  /** Whoever changes something is waited for here. */
  waiting: (() => void)[] = [];
  refuses = 0;
  #given = 0;
  #last: number | null = null;

  getParameters(): RTCRtpSendParameters {
    this.#last ??= ++this.#given;
    const encodings = this.active.map((active) => ({ active }));
    return { transactionId: String(this.#last), encodings, codecs: [], headerExtensions: [], rtcp: {} };
  }

  async setParameters({ transactionId, encodings }: RTCRtpSendParameters): Promise<void> {
    const given = this.#last;
    if (given === null || transactionId !== String(given) || this.refuses-- > 0) throw new DOMException("no", "InvalidStateError");
    await new Promise<void>((done) => this.waiting.push(done));
    // Another change was carried out meanwhile.
    if (this.#last !== given) throw new DOMException("no", "InvalidStateError");
    this.#last = null;
    this.active = encodings.map(({ active }) => active ?? true);
  }

  async carries_out(): Promise<void> {
    this.waiting.shift()?.();
    await settle();
  }
}

function world(): { sender: FakeSender; layers: Layers; timers: FakeTimers } {
  const [sender, timers] = [new FakeSender(), new FakeTimers()];
  return { sender, timers, layers: new Layers(sender as unknown as RTCRtpSender, timers) };
}

test("what is watched last is what is made, however fast it changed", async () => {
  const { sender, layers } = world();
  void layers.send(null);
  void layers.send(2);
  void layers.send(1);
  await settle();
  assert.equal(sender.waiting.length, 1, "one change at a time");
  await sender.carries_out();
  assert.deepEqual(sender.active, [false, false, false]);
  await sender.carries_out();
  assert.deepEqual(sender.active, [true, true, false]);
  assert.equal(sender.waiting.length, 0, "and no more than are of use");
  void layers.send(0);
  await settle();
  await sender.carries_out();
  assert.deepEqual(sender.active, [true, false, false]);
});

test("a browser that refuses is asked again, and given up at last", async () => {
  const { sender, layers, timers } = world();
  sender.refuses = 2;
  void layers.send(1);
  await timers.pass(400);
  await sender.carries_out();
  assert.deepEqual(sender.active, [true, true, false]);
  sender.refuses = 100;
  void layers.send(0);
  await timers.pass(5_000);
  assert.equal(sender.refuses, 95);
  sender.refuses = 0;
  void layers.send(0);
  await settle();
  await sender.carries_out();
  assert.deepEqual(sender.active, [true, false, false], "the next word begins anew");
});
