/** A call, with a browser's connections that are none and an engine that answers what a test says. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Call } from "../client/calls/call";
import { Refused } from "../client/problem";
import type { Socket } from "../client/socket";
import type { CallJoined, CallParticipant, CallTrack, RoomEvent } from "../client/wire";
import { FakeTimers, settle } from "./fakes";

const ROOM = "room_1";
const ME: CallParticipant = { participant: 1, user: "user_1", role: "speaker", hand: false } as unknown as CallParticipant;
const BO: CallParticipant = { ...ME, participant: 2, user: "user_2" };

function device(kind: "audio" | "video"): MediaStreamTrack {
  return { kind, enabled: true, stop() {} } as unknown as MediaStreamTrack;
}

class FakeConnection {
  static newest: FakeConnection;
  connectionState = "new";
  onconnectionstatechange = () => {};
  localDescription = { sdp: "offer" };
  readonly all: { mid: string; direction: string; sender: { track: MediaStreamTrack | null; replaceTrack(track: MediaStreamTrack | null): Promise<void> }; receiver: { track: { kind: string } } }[] = [];

  constructor() {
    FakeConnection.newest = this;
  }

  addTransceiver(what: MediaStreamTrack | string, { direction }: { direction: string }): unknown {
    const track = typeof what === "string" ? null : what;
    const kind = typeof what === "string" ? what : what.kind;
    const sender: FakeConnection["all"][number]["sender"] = {
      track,
      async replaceTrack(other) {
        sender.track = other;
      },
    };
    const one = { mid: String(this.all.length), direction, sender, receiver: { track: { kind } } };
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
    assert.equal(this.state.name, "online", `${type} is asked of nobody`);
    this.asked.push([type, fields]);
    const answer = this.engine(type, fields);
    if (answer instanceof Refused) throw answer;
    return answer;
  }

  /** What is on its way is lost, and nothing may be asked: a real one would ask it first thing on the next connection. */
  goes_away(): void {
    this.state = { ...this.state, name: "offline" };
    for (const changed of this.#changed) changed(this.state);
  }

  says(event: Fields): void {
    for (const heard of this.#heard) heard({ room: ROOM, ...event } as unknown as RoomEvent);
  }

  /** Over another connection. */
  comes_back(session = "session_2"): void {
    this.state = { name: "online", connected: { session } };
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
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") {
      const tracks = published({ tracks: [{ mid: "0", source: "microphone", muted }, { mid: "1", source: "camera", muted: false }] })["tracks"];
      return joined(fields["resume"] === undefined ? {} : { tracks: tracks as CallJoined["tracks"] });
    }
    if (type === "room.publish") return published(fields);
    return type === "room.mute" && socket.state.connected.session === "session_1" ? new Refused("disconnected", "away") : { type: "ok" };
  });
  await call.join(local);
  const muting = call.mute("camera", true);
  await settle();
  socket.goes_away();
  muted = true;
  socket.comes_back();
  await timers.pass(500);
  await muting;
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

test("what a person wanted of the room while the engine could not be asked is told when it can, the last wish alone", async () => {
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined({ participants: [{ ...ME, role: "host" }, BO] });
    if (type === "room.publish") return published(fields);
    return socket.state.connected.session === "session_1" ? new Refused("disconnected", "away") : { type: "ok" };
  });
  await call.join(local);
  const raising = call.raise_hand(true);
  await settle();
  assert.equal(socket.count("room.hand"), 1, "it was on its way");
  socket.goes_away();
  const wishes = [raising, call.raise_hand(false), call.raise_hand(true), call.lock(true), call.lock(false), call.set_lobby(true), call.set_role(2, "listener")];
  await timers.pass(5_000);
  const asked_before = socket.asked.length;
  socket.comes_back();
  await timers.pass(500);
  await Promise.all(wishes);
  const [first, ...then] = socket.asked.slice(asked_before);
  assert.deepEqual([first?.[0], first?.[1]["resume"]], ["room.join", 1]);
  assert.deepEqual(
    then.filter(([type]) => type !== "room.publish"),
    [
      ["room.hand", { up: true }],
      ["room.lock", { locked: false }],
      ["room.lobby", { on: true }],
      ["room.role", { participant: 2, role: "listener" }],
    ],
  );
  const asked = socket.asked.length;
  await timers.pass(5_000);
  assert.equal(socket.asked.length, asked, "what was heard is not said again");
});

test("who has gone meanwhile is neither taken out nor given a role, and neither is whoever has their number now", async () => {
  let there: CallParticipant[] = [ME, BO, { ...BO, participant: 3, user: "user_3" }];
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined({ participants: there });
    return type === "room.publish" ? published(fields) : { type: "ok" };
  });
  await call.join(local);
  socket.goes_away();
  const wishes = [call.kick(2), call.set_role(3, "listener")];
  there = [ME, { ...BO, participant: 3, user: "user_4" }];
  socket.comes_back();
  await timers.pass(500);
  await Promise.all(wishes);
  assert.deepEqual([socket.count("room.kick"), socket.count("room.role")], [0, 0]);
});

test("what the busy engine does not hear is said again, and what it refuses for good is not", async () => {
  let refusals = 2;
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined({ participants: [ME, BO] });
    if (type === "room.publish") return published(fields);
    if (type === "room.kick") return refusals-- > 0 ? new Refused("overloaded", "busy", 300) : { type: "ok" };
    return type === "room.lock" ? new Refused("forbidden", "hosts only") : { type: "ok" };
  });
  await call.join(local);
  const kicking = call.kick(2);
  await assert.rejects(call.lock(true), { code: "forbidden" });
  await timers.pass(700);
  await kicking;
  await timers.pass(5_000);
  assert.deepEqual([socket.count("room.kick"), socket.count("room.lock")], [3, 1]);
  // They leave by themselves before it is said once more.
  refusals = 1;
  const again = call.kick(2);
  await settle();
  socket.says({ event: "left", participant: 2 });
  await timers.pass(500);
  await again;
  assert.equal(socket.count("room.kick"), 4);
});

test("who unmutes while away is heard when back, unless the host silences them after that", async () => {
  const tracks = published({ tracks: [{ mid: "0", source: "microphone", muted: true }, { mid: "1", source: "camera", muted: false }] })["tracks"] as CallJoined["tracks"];
  let refusals = 0;
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined(fields["resume"] === undefined ? {} : { tracks });
    if (type === "room.publish") return published(fields);
    return type === "room.mute" && refusals-- > 0 ? new Refused("rate_limited", "too fast", 300) : { type: "ok" };
  });
  await call.join(local);
  await call.mute("microphone", true);
  socket.goes_away();
  const unmuting = call.mute("microphone", false);
  socket.comes_back();
  await timers.pass(500);
  await unmuting;
  const microphone = local.getAudioTracks()[0];
  assert.equal(microphone?.enabled, true);
  assert.deepEqual(socket.asked.at(-1), ["room.mute", { track: 10, muted: false }]);
  refusals = 1;
  const asked_before = socket.count("room.mute");
  const late = call.mute("microphone", false);
  await settle();
  socket.says({ event: "muted", track: 10, muted: true });
  await timers.pass(500);
  await late;
  assert.deepEqual([microphone?.enabled, socket.count("room.mute")], [false, asked_before + 1]);
});

test("a screen that is not shared any more, or shared, while away is so for the room when back", async () => {
  const screen = { kind: "video", enabled: true, stop() {}, onended: null };
  Object.defineProperty(globalThis, "navigator", {
    value: { mediaDevices: { getDisplayMedia: async () => ({ getVideoTracks: () => [screen] }) } },
    configurable: true,
  });
  let tracks: CallTrack[] = [];
  const { call, socket, timers, local } = world((type, fields) => {
    if (type === "room.join") return joined({ tracks });
    if (type === "room.publish") {
      const answer = published(fields);
      // Numbers are given once.
      for (const one of answer["tracks"] as CallTrack[]) one.track += tracks.length;
      tracks = [...tracks, ...(answer["tracks"] as CallTrack[])];
      return answer;
    }
    if (type === "room.unpublish") tracks = tracks.filter((one) => one.track !== fields["track"]);
    return { type: "ok" };
  });
  await call.join(local);
  socket.goes_away();
  const sharing = call.share(true);
  await timers.pass(1_000);
  assert.equal(call.mine("screen"), undefined);
  socket.comes_back();
  await timers.pass(500);
  await sharing;
  assert.equal(call.mine("screen")?.track, 12);
  assert.equal(socket.count("room.publish"), 2, "it is published once");
  socket.goes_away();
  const stopping = call.share(false);
  await timers.pass(1_000);
  socket.comes_back("session_3");
  await timers.pass(500);
  await stopping;
  assert.deepEqual(tracks.map((one) => one.source), ["microphone", "camera"]);
});
