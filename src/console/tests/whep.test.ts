/** Watching over WebRTC while nobody publishes, with a browser's connections that are none. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { PlaybackView } from "../parts/playing";
import { WhepPlayback } from "../parts/whep";
import { FakeTimers, settle } from "./fakes";

class FakeConnection {
  static open = 0;
  connectionState = "new";
  localDescription = { sdp: "offer" };

  constructor() {
    FakeConnection.open += 1;
  }

  addTransceiver(): void {}
  async setLocalDescription(): Promise<void> {}
  async setRemoteDescription(): Promise<void> {}
  close(): void {
    FakeConnection.open -= 1;
  }
}

Object.assign(globalThis, { RTCPeerConnection: FakeConnection, MediaStream: class {} });

/** A viewer whose offers `engine` answers. */
function viewer(engine: (url: string) => Response) {
  const timers = new FakeTimers();
  const offers: { url: string; at: number }[] = [];
  const told = { views: [] as PlaybackView[], refused: [] as string[], starved: 0 };
  let token = 0;
  globalThis.fetch = async (input) => {
    offers.push({ url: String(input), at: timers.now() });
    return engine(String(input));
  };
  const playback = new WhepPlayback({
    video: Object.assign(new EventTarget(), { srcObject: null }) as unknown as HTMLVideoElement,
    url: () => `/whep/stream_x?token=${token++}`,
    starves: () => (told.starved += 1),
    changed: (view) => told.views.push(view),
    refused: (words) => told.refused.push(words),
    timers,
  });
  return { playback, timers, offers, told };
}

const away = () => new Response('{"detail":"the stream is not live; try again"}', { status: 409, headers: { "retry-after": "1" } });

test("whoever watches waits for a publisher as long as the stream is not over, asks ever more seldom, and stops at once when told", async () => {
  const { playback, timers, offers, told } = viewer(away);
  await timers.pass(600_000);
  const waits = offers.slice(1).map(({ at }, nth) => at - (offers[nth]?.at ?? 0));
  assert.ok(offers.length >= 120 && offers.length <= 240, `${offers.length} offers in ten minutes`);
  assert.ok(waits.every((wait) => wait >= 1_000 && wait <= 5_000), `${waits}`);
  assert.equal(told.starved, offers.length, "each time the stream's state is looked at");
  assert.deepEqual([told.views.at(-1)?.state, told.refused], ["loading", []]);
  assert.equal(offers.at(-1)?.url, `/whep/stream_x?token=${offers.length - 1}`, "with what opens it now");
  const asked = offers.length;
  playback.destroy();
  await timers.pass(60_000);
  assert.deepEqual([offers.length, timers.next_ms(), FakeConnection.open], [asked, null, 0]);
});

test("the engine is given the time it asks for, within reason, and is not hurried when it asks for none", async () => {
  for (const [after, least, most] of [["10", 10, 11], ["600", 4, 5], ["soon", 20, 40], ["", 20, 40]] as const) {
    const { playback, timers, offers } = viewer(() => new Response("{}", { status: 409, headers: { "retry-after": after } }));
    await timers.pass(100_000);
    playback.destroy();
    assert.ok(offers.length >= least && offers.length <= most, `${offers.length} offers, asked for ${after}`);
  }
});

test("a stream that was deleted is not waited for, and what was refused for good is said", async () => {
  const deleted = viewer(() => new Response("{}", { status: 404 }));
  await settle();
  await deleted.timers.pass(60_000);
  assert.deepEqual([deleted.told.views.at(-1)?.state, deleted.offers.length], ["absent", 1]);
  deleted.playback.destroy();

  const answers = [503, 409, 503, 503, 503];
  const busy = viewer(() => new Response('{"detail":"too many watch"}', { status: answers.shift() ?? 503 }));
  await busy.timers.pass(60_000);
  assert.deepEqual([busy.offers.length, busy.told.refused], [5, ["Too many watch"]], "three times in a row");
  busy.playback.destroy();
});
