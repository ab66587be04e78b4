import assert from "node:assert/strict";
import { test } from "node:test";
import { said_in, type Said, Topics } from "../client/calls/topics";

class FakeChannel {
  readyState = "connecting";
  bufferedAmount = 0;
  binaryType = "blob";
  readonly sent: unknown[] = [];
  onopen = () => {};
  onclose = () => {};
  onmessage = (_: { data: unknown }) => {};

  constructor(
    readonly label: string,
    readonly options: RTCDataChannelInit,
  ) {}

  send(message: unknown): void {
    this.sent.push(message);
  }

  close(): void {
    this.readyState = "closed";
  }

  opens(): void {
    this.readyState = "open";
    this.onopen();
  }
}

function connection() {
  const channels: FakeChannel[] = [];
  const pc = {
    createDataChannel: (label: string, options: RTCDataChannelInit) => {
      const channel = new FakeChannel(label, options);
      channels.push(channel);
      return channel;
    },
  } as unknown as RTCPeerConnection;
  return { pc, channels };
}

test("whose a message is stands before it", () => {
  assert.deepEqual(said_in("12 good morning"), { participant: 12, text: "good morning" });
  assert.deepEqual(said_in("7 "), { participant: 7, text: "" });
  for (const nobodys of ["", "good", "x y", " z"]) assert.equal(said_in(nobodys), null, nobodys);
  const bytes = said_in(new Uint8Array([0, 0, 1, 2, 9, 8]).buffer);
  assert.deepEqual([bytes?.participant, ...(bytes?.bytes ?? [])], [258, 9, 8]);
  assert.equal(said_in(new ArrayBuffer(3)), null);
});

test("a topic is there before and after its connection, and says only what gets through", () => {
  const topics = new Topics();
  const chat = topics.open("chat", {});
  assert.equal(topics.open("chat", { lossy: true }), chat, "there is one of each name");
  const heard: Said[] = [];
  chat.hear((said) => heard.push(said));
  assert.equal(chat.say("too early"), false);
  const first = connection();
  topics.attach(first.pc);
  topics.open("pointer", { lossy: true });
  assert.deepEqual(
    first.channels.map(({ label, options }) => [label, options]),
    [
      ["", { negotiated: true, id: 62 }],
      ["chat", {}],
      ["pointer", { ordered: false, maxRetransmits: 0 }],
    ],
  );
  const [, channel] = first.channels;
  assert.ok(channel);
  let changes = 0;
  chat.watch(() => (changes += 1));
  channel.opens();
  assert.deepEqual([chat.open, changes], [true, 1]);
  assert.equal(chat.say("good morning"), true);
  assert.equal(chat.say("ä".repeat(8_193)), false, "16 KiB and two bytes");
  assert.equal(chat.say(new Uint8Array([1, 2])), true);
  channel.bufferedAmount = 300_000;
  assert.equal(chat.say("too much waits"), false);
  assert.equal(channel.sent.length, 2);
  channel.onmessage({ data: "3 good evening" });
  assert.deepEqual(heard, [{ participant: 3, text: "good evening" }]);
  // Another connection: what the old one brings still is nobody's.
  const second = connection();
  topics.attach(second.pc);
  channel.onmessage({ data: "3 too late" });
  second.channels[1]?.onmessage({ data: "4 here" });
  assert.deepEqual(heard.at(-1), { participant: 4, text: "here" });
  assert.equal(heard.length, 2);
  topics.end();
  assert.equal(chat.open, false);
});
