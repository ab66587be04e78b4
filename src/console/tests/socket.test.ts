import assert from "node:assert/strict";
import { test } from "node:test";
import { Socket, type SocketState } from "../client/socket";
import { Tokens, memory_store } from "../client/tokens";
import { local_locks } from "../client/locks";
import { Problem } from "../client/problem";
import type { SignedIn } from "../client/types";
import { FakeSocket, FakeTimers, settle, signed_in } from "./fakes";

const CONNECTED = {
  type: "connected",
  session: "session_1",
  user: "user_ann",
  device: "device_1",
  ping_interval_ms: 25_000,
  limits: { message_bytes: 4_096, requests_per_s: 50 },
  queue: 0,
};

function world(renewals: (SignedIn | Problem)[] = []) {
  const timers = new FakeTimers();
  const tokens = new Tokens({
    store: memory_store(),
    locks: local_locks(),
    timers,
    exchange: async () => {
      const next = renewals.shift();
      if (!next || next instanceof Problem) throw next ?? new Error("no renewal is prepared");
      return next;
    },
  });
  tokens.adopt(signed_in(1));
  const sockets: FakeSocket[] = [];
  const states: SocketState[] = [];
  let wake = () => {};
  const socket = new Socket({
    url: "wss://nova.test/v1/ws",
    tokens,
    timers,
    client: "test/1",
    open: (url, protocol) => {
      const ws = new FakeSocket(url, protocol);
      sockets.push(ws);
      return ws;
    },
    awake: (back) => {
      wake = back;
      return () => {
        wake = () => {};
      };
    },
  });
  socket.watch((state) => states.push(state));
  const newest = () => {
    const ws = sockets.at(-1);
    assert.ok(ws, "nothing was dialled");
    return ws;
  };
  const names = () => states.map((state) => state.name);
  const connect = async (connected: object = CONNECTED) => {
    await settle();
    newest().opens();
    newest().answers("connect", connected);
    await settle();
    return newest();
  };
  return { timers, tokens, socket, sockets, states, names, newest, connect, wake: () => wake() };
}

test("connecting says who we are, and then we are online", async () => {
  const { socket, connect, names, newest } = world();
  socket.start();
  const ws = await connect();
  assert.deepEqual([ws.url, ws.asked_protocol], ["wss://nova.test/v1/ws", "nova.v1"]);
  const { ref, ...first } = newest().sent[0] ?? {};
  assert.deepEqual(first, { type: "connect", token: "access-1", client: "test/1" });
  assert.equal(typeof ref, "number");
  assert.deepEqual(names(), ["connecting", "online"]);
});

test("each answer finds its request, in whatever order, and refusals are told apart", async () => {
  const { socket, connect } = world();
  socket.start();
  const ws = await connect();
  const one = socket.ask("send", { conversation: "conv_1", client_msg_id: "a", text: "1" });
  const first = ws.last("send").ref;
  const two = socket.ask("send", { conversation: "conv_1", client_msg_id: "b", text: "2" });
  const second = ws.last("send").ref;
  assert.notEqual(first, second);
  ws.says({ ref: second, type: "error", code: "not_a_member", detail: "you are not in it" });
  ws.says({ ref: 999, type: "sent" });
  ws.says({ ref: first, type: "sent", seq: 7 });
  assert.equal((await one).seq, 7);
  await assert.rejects(two, { code: "not_a_member", message: "you are not in it" });
});

test("pushes reach their listeners, and one that throws does not hurt the others", async () => {
  const { socket, connect } = world();
  const heard: unknown[] = [];
  const thrown: unknown[] = [];
  const scope = globalThis as { reportError?: unknown };
  scope.reportError = (error: unknown) => thrown.push(error);
  socket.on("entry", () => {
    throw new Error("listener broke");
  });
  const off = socket.on("entry", (entry) => heard.push(entry.seq));
  socket.start();
  const ws = await connect();
  ws.says({ type: "entry", conversation: "conv_1", seq: 1 });
  off();
  ws.says({ type: "entry", conversation: "conv_1", seq: 2 });
  ws.says({ type: "something_new" });
  assert.deepEqual(heard, [1]);
  delete scope.reportError;
  assert.deepEqual(thrown.map(String), ["Error: listener broke", "Error: listener broke"]);
  assert.equal(socket.state.name, "online");
});

test("a lost connection is dialled again, later each time, by chance", async () => {
  const { socket, timers, sockets, newest, states } = world();
  timers.chance = 0;
  socket.start();
  await settle();
  const waits: number[] = [];
  for (let nth = 0; nth < 8; nth += 1) {
    newest().ends(1006);
    const state = states.at(-1);
    assert.ok(state?.name === "offline");
    waits.push(state.retry_at - timers.now());
    await timers.pass(waits.at(-1) ?? 0);
    assert.equal(sockets.length, nth + 2);
  }
  assert.deepEqual(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 15_000, 15_000]);
});

test("a connection that held starts the count anew; one that fell at once does not", async () => {
  const { socket, timers, connect, states } = world();
  timers.chance = 0;
  const wait = () => {
    const state = states.at(-1);
    assert.ok(state?.name === "offline");
    return state.retry_at - timers.now();
  };
  socket.start();
  (await connect()).ends(4000);
  assert.equal(wait(), 250);
  await timers.pass(250);
  (await connect()).ends(4000);
  assert.equal(wait(), 500);
  await timers.pass(500);
  const steady = await connect();
  await timers.pass(10_000);
  steady.ends(4000);
  assert.equal(wait(), 250);
});

test("4000 to 4499 come back, 4500 to 4999 stay away", async () => {
  for (const code of [1000, 1001, 1011, 4000, 4001, 4002, 4003, 4004, 4499]) {
    const { socket, connect, timers, sockets } = world();
    socket.start();
    (await connect()).ends(code);
    assert.equal(socket.state.name, "offline", String(code));
    await timers.pass(1_000);
    assert.equal(sockets.length, 2, String(code));
  }
  for (const code of [4500, 4503, 4504, 4505, 4506, 4999]) {
    const { socket, connect, timers, sockets, tokens } = world();
    socket.start();
    (await connect()).ends(code);
    assert.deepEqual([socket.state.name, (socket.state as { code: number }).code], ["gone", code]);
    await timers.pass(3_600_000);
    assert.equal(sockets.length, 1, String(code));
    assert.ok(tokens.session);
  }
});

test("a goodbye is believed: when to come back, and whether", async () => {
  const { socket, connect, timers, sockets } = world();
  socket.start();
  const ws = await connect();
  ws.says({ type: "goodbye", code: 4000, reason: "drain", reconnect: true, after_ms: 7_000 });
  ws.ends(4000);
  assert.deepEqual({ ...socket.state, retry_at: 0 }, { name: "offline", reason: "drain", code: 4000, retry_at: 0 });
  await timers.pass(6_999);
  assert.equal(sockets.length, 1);
  await timers.pass(1);
  assert.equal(sockets.length, 2);

  const other = await connect();
  other.says({ type: "goodbye", code: 4001, reason: "slow_consumer", reconnect: false, after_ms: 0 });
  other.ends(4001);
  assert.deepEqual(socket.state, { name: "gone", reason: "slow_consumer", code: 4001 });
});

test("an expired token is exchanged before coming back", async () => {
  const { socket, connect, timers, sockets, newest } = world([signed_in(2)]);
  socket.start();
  (await connect()).ends(4501);
  assert.equal(socket.state.name, "offline");
  await timers.pass(1_000);
  assert.equal(sockets.length, 2);
  newest().opens();
  assert.equal(newest().last("connect")["token"], "access-2");
});

test("a session that was revoked ends for the whole client", async () => {
  const { socket, connect, tokens } = world([new Problem(401, { code: "session_revoked" })]);
  socket.start();
  (await connect()).ends(4502);
  assert.deepEqual(socket.state, { name: "gone", reason: "session_revoked", code: 4502 });
  await settle();
  assert.equal(tokens.session, null);
});

test("a refused connect is read like the close code that says the same", async () => {
  const { socket, newest } = world();
  socket.start();
  await settle();
  newest().opens();
  newest().answers("connect", { type: "error", code: "session_revoked", detail: "ended" });
  assert.deepEqual(socket.state, { name: "gone", reason: "session_revoked", code: 4502 });

  const busy = world();
  busy.socket.start();
  await settle();
  busy.newest().opens();
  busy.newest().answers("connect", { type: "error", code: "overloaded", detail: "later", retry_after_ms: 4_000 });
  assert.ok(busy.socket.state.name === "offline" && busy.socket.state.retry_at === busy.timers.now() + 4_000);
});

test("somebody who does not speak our protocol is left alone", async () => {
  const { socket, newest } = world();
  socket.start();
  await settle();
  newest().protocol = "";
  newest().opens();
  assert.deepEqual(socket.state, { name: "gone", reason: "protocol_error", code: 4504 });
});

test("a door that opens and says nothing is given up", async () => {
  const { socket, timers, newest } = world();
  socket.start();
  await settle();
  newest().opens();
  await timers.pass(14_999);
  assert.equal(socket.state.name, "connecting");
  await timers.pass(1);
  assert.equal(socket.state.name, "offline");
});

test("silence is noticed: no pong, no connection", async () => {
  const { socket, timers, connect, newest, sockets } = world();
  socket.start();
  const ws = await connect();
  await timers.pass(25_000);
  assert.equal(ws.count("ping"), 1);
  ws.answers("ping", { type: "pong", at: "2026-01-01T00:00:00.000Z" });
  await timers.pass(25_000);
  assert.equal(ws.count("ping"), 2);
  await timers.pass(10_000);
  assert.ok(socket.state.name === "offline" && socket.state.reason === "ping_timeout");
  assert.equal(ws.closed_with, 4003);
  await timers.pass(1_000);
  assert.equal(sockets.length, 2);
  assert.notEqual(newest(), ws);
});

test("who knows that the network has changed has another connection at once", async () => {
  const { socket, connect, sockets, newest } = world();
  socket.redial();
  assert.equal(sockets.length, 0, "nobody has begun");
  socket.start();
  const ws = await connect();
  socket.redial();
  await settle();
  assert.deepEqual([sockets.length, ws.closed_with], [2, 1000]);
  newest().opens();
  assert.equal(newest().count("connect"), 1);
});

test("a renewed token is told on the living connection", async () => {
  const { socket, timers, connect, newest } = world([signed_in(2)]);
  socket.start();
  const ws = await connect({ ...CONNECTED, ping_interval_ms: 10_000_000 });
  await timers.pass(869_000);
  assert.equal(ws.count("refresh"), 0);
  await timers.pass(2_000);
  assert.equal(ws.last("refresh")["token"], "access-2");
  assert.equal(newest(), ws);
});

test("logging out closes the connection, and logging in as somebody else opens another", async () => {
  const { socket, tokens, connect, sockets, newest } = world();
  socket.start();
  const ws = await connect();
  tokens.adopt({ ...signed_in(3), user: { ...signed_in(3).user, id: "user_bo" } });
  await settle();
  assert.equal(ws.closed_with, 1000);
  assert.equal(sockets.length, 2);
  newest().opens();
  assert.equal(newest().last("connect")["token"], "access-3");
  tokens.drop("logged_out");
  assert.deepEqual(socket.state, { name: "gone", reason: "logged_out", code: null });
});

test("what may be asked again survives the connection, in order; the rest is refused", async () => {
  const { socket, timers, connect } = world();
  socket.start();
  const ws = await connect();
  const sends = ["a", "b"].map((client_msg_id) =>
    socket.ask("send", { conversation: "conv_1", client_msg_id, text: client_msg_id }, { resend: true }));
  const pull = socket.ask("pull", { conversation: "conv_1", epoch: 1, after: 0, limit: 10 });
  ws.ends(1006);
  await assert.rejects(pull, { code: "disconnected" });
  const third = socket.ask("send", { conversation: "conv_1", client_msg_id: "c", text: "c" }, { resend: true });
  await timers.pass(1_000);
  const next = await connect();
  assert.deepEqual(next.sent.slice(1).map((one) => one["client_msg_id"]), ["a", "b", "c"]);
  for (const one of next.sent.slice(1)) next.says({ ref: one.ref, type: "sent", client_msg_id: one["client_msg_id"], duplicate: true });
  const answers = await Promise.all([...sends, third]);
  assert.deepEqual(answers.map((answer) => answer.client_msg_id), ["a", "b", "c"]);
});

test("a request that is asked for patience is asked again when it may, if it may", async () => {
  const { socket, timers, connect } = world();
  socket.start();
  const ws = await connect();
  const patient = socket.ask("send", { conversation: "c", client_msg_id: "a" }, { resend: true });
  ws.answers("send", { type: "error", code: "rate_limited", detail: "slow", retry_after_ms: 2_000 });
  await timers.pass(1_999);
  assert.equal(ws.count("send"), 1);
  await timers.pass(1);
  assert.equal(ws.count("send"), 2);
  ws.answers("send", { type: "sent", seq: 1 });
  assert.equal((await patient).seq, 1);
});

test("we never send faster than the engine allows", async () => {
  const { socket, timers, connect } = world();
  socket.start();
  const ws = await connect({ ...CONNECTED, limits: { message_bytes: 4_096, requests_per_s: 10 } });
  for (let nth = 0; nth < 30; nth += 1) {
    void socket.ask("read", { conversation: "c", seq: nth }, { resend: true }).catch(() => {});
  }
  assert.equal(ws.count("read"), 8);
  await timers.pass(1_000);
  assert.ok(ws.count("read") <= 16 && ws.count("read") >= 15, String(ws.count("read")));
  await timers.pass(2_000);
  assert.deepEqual(ws.sent.filter((one) => one.type === "read").map((one) => one["seq"]), Array.from({ length: 30 }, (_, n) => n));
});

test("too large is said here, and too much waiting as well", async () => {
  const { socket, connect, newest } = world();
  socket.start();
  await connect();
  await assert.rejects(socket.ask("send", { conversation: "c", client_msg_id: "a", text: "é".repeat(2_100) }), { code: "too_large" });
  newest().ends(1006);
  const waiting = Array.from({ length: 512 }, (_, n) => socket.ask("read", { conversation: "c", seq: n }, { resend: true }));
  for (const one of waiting) one.catch(() => {});
  await assert.rejects(socket.ask("read", { conversation: "c", seq: 513 }, { resend: true }), { code: "outbox_full" });
  socket.stop();
  await assert.rejects(waiting[0] ?? Promise.resolve(), { code: "stopped" });
});

test("an answer that does not come is not waited for for ever, and nobody has to wait at all", async () => {
  const { socket, timers, connect } = world();
  socket.start();
  await connect({ ...CONNECTED, ping_interval_ms: 1_000_000 });
  const slow = socket.ask("pull", { conversation: "c", epoch: 1, after: 0, limit: 1 }).catch((error: unknown) => error);
  await timers.pass(15_000);
  assert.equal(((await slow) as { code: string }).code, "no_answer");
  const abort = new AbortController();
  const left = socket.ask("read", { conversation: "c", seq: 1 }, { resend: true, signal: abort.signal }).catch((error: unknown) => error);
  abort.abort(new Error("left"));
  assert.equal(((await left) as Error).message, "left");
});

test("hints are said when online and forgotten when not", async () => {
  const { socket, connect } = world();
  assert.equal(socket.tell("typing", { conversation: "c", on: true }), false);
  socket.start();
  const ws = await connect();
  assert.equal(socket.tell("typing", { conversation: "c", on: true }), true);
  assert.deepEqual(ws.last("typing"), { type: "typing", conversation: "c", on: true });
});

test("a network that returns is not made to wait, a node that asked for time gets it", async () => {
  const { socket, timers, connect, sockets, wake } = world();
  socket.start();
  await settle();
  for (let nth = 0; nth < 6; nth += 1) {
    sockets.at(-1)?.ends(1006);
    await timers.pass(30_000);
  }
  sockets.at(-1)?.ends(1006);
  const before = sockets.length;
  wake();
  await settle();
  assert.equal(sockets.length, before + 1);

  const ws = await connect();
  wake();
  assert.equal(ws.count("ping"), 1, "a connection that slept is asked whether it lives");
  ws.ends(4000);
  wake();
  await settle();
  assert.equal(sockets.length, before + 1);
});

test("what is not a message ends the connection, not the client", async () => {
  const { socket, connect } = world();
  socket.start();
  const ws = await connect();
  ws.onmessage?.({ data: "{" });
  assert.ok(socket.state.name === "offline" && socket.state.reason === "bad_message");
});

test("sent to another node we go there, and home again when that one is gone", async () => {
  const { socket, connect, newest, sockets, timers } = world();
  socket.start();
  const first = await connect();
  socket.move("http://node7.nova.test:8080");
  assert.equal(first.closed_with, 1000);
  await settle();
  assert.equal(newest().url, "ws://node7.nova.test:8080/v1/ws");
  await connect();
  assert.equal(socket.state.name, "online");
  newest().ends(1006);
  await timers.pass(500);
  assert.equal(newest().url, "wss://nova.test/v1/ws", "what is lost there is found again at home");
  await connect();
  // A node that does not answer is given up soon.
  socket.move("http://node8.nova.test:8080");
  await settle();
  const dialled = sockets.length;
  await timers.pass(4_000);
  assert.ok(sockets.length > dialled);
  assert.equal(newest().url, "wss://nova.test/v1/ws");
});
