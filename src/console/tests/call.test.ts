/** A call, with a browser's connections that are none and an engine that answers what a test says. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Call } from "../client/calls/call";
import { Refused } from "../client/problem";
import type { Socket } from "../client/socket";
import type { CallJoined, CallParticipant, RoomEvent } from "../client/wire";
import { FakeTimers, settle } from "./fakes";

const ROOM = "room_1";
const ME: CallParticipant = { participant: 1, user: "user_1", role: "speaker", hand: false } as unknown as CallParticipant;

function device(kind: "audio" | "video"): MediaStreamTrack {
  return { kind, enabled: true, stop() {} } as unknown as MediaStreamTrack;
}

class FakeConnection {
  static newest: FakeConnection;
  connectionState = "new";
  onconnectionstatechange = () => {};
  localDescription = { sdp: "offer" };
  readonly all: { mid: string; direction: string; sender: { track: MediaStreamTrack | null }; receiver: { track: { kind: string } } }[] = [];

  constructor() {
    FakeConnection.newest = this;
  }

  addTransceiver(what: MediaStreamTrack | string, { direction }: { direction: string }): unknown {
    const track = typeof what === "string" ? null : what;
    const kind = typeof what === "string" ? what : what.kind;
    const one = { mid: String(this.all.length), direction, sender: { track }, receiver: { track: { kind } } };
    this.all.push(one);
    return one;
  }

  getTransceivers(): unknown[] {
    return this.all;
  }

  createDataChannel(): unknown {
    return {};
  }

  async createOffer(): Promise<{ type: string; sdp: string }> {
    return { type: "offer", sdp: "offer" };
  }

  async getStats(): Promise<Map<string, object>> {
    return new Map();
  }

  async setLocalDescription(): Promise<void> {}
  async setRemoteDescription(): Promise<void> {}
  close(): void {}
}

Object.assign(globalThis, { RTCPeerConnection: FakeConnection, RTCRtpReceiver: { getCapabilities: () => null } });

type Fields = Record<string, unknown>;

/** A socket on which everything that is asked is answered by `engine`. */
class FakeSocket {
  state: { name: string; connected: { session: string } } = { name: "online", connected: { session: "session_1" } };
  readonly asked: [string, Fields][] = [];
  #changed: ((state: FakeSocket["state"]) => void)[] = [];
  #heard: ((event: RoomEvent) => void)[] = [];

  constructor(readonly engine: (type: string, fields: Fields) => Fields | Refused) {}

  on(_: string, heard: (event: RoomEvent) => void): () => void {
    this.#heard.push(heard);
    return () => {};
  }

  watch(changed: (state: FakeSocket["state"]) => void): () => void {
    this.#changed.push(changed);
    return () => {};
  }

  async ask(type: string, fields: Fields): Promise<Fields> {
    this.asked.push([type, fields]);
    const answer = this.engine(type, fields);
    if (answer instanceof Refused) throw answer;
    return answer;
  }

  /** Over another connection. */
  comes_back(): void {
    this.state = { name: "online", connected: { session: "session_2" } };
    for (const changed of this.#changed) changed(this.state);
  }

  count(type: string): number {
    return this.asked.filter(([one]) => one === type).length;
  }
}

function joined(more: Partial<CallJoined> = {}): Fields {
  return {
    type: "room.joined",
    room: ROOM,
    participant: 1,
    answer: "answer",
    ice_servers: [],
    title: null,
    conversation: null,
    call: null,
    locked: false,
    lobby: false,
    waiting: [],
    participants: [ME],
    tracks: [],
    slots: [],
    streaming: null,
    expires_in: 60,
    ...more,
  };
}

function published(fields: Fields): Fields {
  const tracks = (fields["tracks"] as { mid: string; source: string; muted: boolean }[]).map((one, at) => ({ ...one, track: 10 + at, participant: 1 }));
  return { type: "room.published", tracks };
}

function world(engine: (type: string, fields: Fields) => Fields | Refused): { call: Call; socket: FakeSocket; timers: FakeTimers; local: MediaStream } {
  const [socket, timers] = [new FakeSocket(engine), new FakeTimers()];
  const [voice, face] = [device("audio"), device("video")];
  const local = { getAudioTracks: () => [voice], getVideoTracks: () => [face], getTracks: () => [voice, face] } as unknown as MediaStream;
  return { call: new Call(socket as unknown as Socket, timers, ROOM, {}), socket, timers, local };
}

test("who loses the connection while publishing is in the call, and publishes when back", async () => {
  let is_away = true;
  const { call, socket, local } = world((type, fields) => {
    if (type === "room.join") return joined();
    if (type === "room.publish") return is_away ? new Refused("disconnected", "away") : published(fields);
    return { type: "ok" };
  });
  await call.join(local);
  assert.equal(call.state.name, "in");
  assert.equal(call.mine("camera"), undefined);
  is_away = false;
  socket.comes_back();
  await settle();
  assert.equal(call.state.name, "in");
  assert.deepEqual([call.mine("microphone")?.track, call.mine("camera")?.track], [10, 11]);
  assert.equal(socket.asked.filter(([type]) => type === "room.join").at(-1)?.[1]["resume"], 1);
});

test("what is refused for now is published after a moment, and a listener publishes nothing", async () => {
  let refusals = 2;
  const { call, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined();
    if (type === "room.publish") return refusals-- > 0 ? new Refused("rate_limited", "too fast", 300) : published(fields);
    return { type: "ok" };
  });
  const joining = call.join(local);
  await timers.pass(700);
  await joining;
  assert.equal(call.mine("camera")?.track, 11);

  const listener = world((type) => (type === "room.join" ? joined({ participants: [{ ...ME, role: "listener" }] }) : new Refused("role_too_low", "no")));
  await listener.call.join(listener.local);
  assert.equal(listener.call.state.name, "in");
  assert.equal(listener.socket.count("room.publish"), 0);
});

test("a wish to see that was not heard is said again", async () => {
  let refusals = 1;
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined();
    if (type === "room.publish") return published(fields);
    if (type === "room.view" && refusals-- > 0) return new Refused("rate_limited", "too fast", 300);
    return { type: "ok" };
  });
  await call.join(local);
  // As a page that says it whenever it is drawn.
  const look = () => void call.view([{ track: 5, height: 360 }]).catch(() => {});
  call.watch(look);
  look();
  await settle();
  assert.equal(socket.count("room.view"), 1);
  await timers.pass(300);
  assert.equal(socket.count("room.view"), 2);
  look();
  await settle();
  assert.equal(socket.count("room.view"), 2, "what was heard is not said twice");
});

test("who was muted, or muted themselves, while away is so for both sides when back", async () => {
  let muted = false;
  const { call, socket, local } = world((type, fields) => {
    if (type === "room.join") {
      const tracks = published({ tracks: [{ mid: "0", source: "microphone", muted }, { mid: "1", source: "camera", muted: false }] })["tracks"];
      return joined(fields["resume"] === undefined ? {} : { tracks: tracks as CallJoined["tracks"] });
    }
    if (type === "room.publish") return published(fields);
    return type === "room.mute" && socket.state.connected.session === "session_1" ? new Refused("disconnected", "away") : { type: "ok" };
  });
  await call.join(local);
  await call.mute("camera", true).catch(() => {});
  muted = true;
  socket.comes_back();
  await settle();
  assert.equal(local.getAudioTracks()[0]?.enabled, false, "the host silenced me");
  assert.deepEqual(socket.asked.at(-1), ["room.mute", { track: 11, muted: true }]);
});

test("a path that is gone is sought anew, also when the engine is busy just then", async () => {
  let refusals = 1;
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined();
    if (type === "room.publish") return published(fields);
    if (type === "room.offer") return refusals-- > 0 ? new Refused("overloaded", "busy", 1_000) : { type: "room.answer", answer: "answer" };
    return { type: "ok" };
  });
  await call.join(local);
  const becomes = (state: string) => {
    FakeConnection.newest.connectionState = state;
    FakeConnection.newest.onconnectionstatechange();
  };
  becomes("disconnected");
  await timers.pass(1_900);
  assert.deepEqual([call.state.name, socket.count("room.offer")], ["in", 0], "it may come back by itself");
  becomes("failed");
  await timers.pass(0);
  assert.deepEqual([call.state.name, socket.count("room.offer")], ["reconnecting", 1]);
  await timers.pass(1_000);
  assert.equal(socket.count("room.offer"), 2);
  becomes("connected");
  assert.equal(call.state.name, "in");
  // It is there again before it was to be sought once more.
  refusals = 1;
  becomes("failed");
  await timers.pass(0);
  becomes("connected");
  await timers.pass(5_000);
  assert.deepEqual([call.state.name, socket.count("room.offer")], ["in", 3]);
});
