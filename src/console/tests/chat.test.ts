import assert from "node:assert/strict";
import { test } from "node:test";
import { Chat } from "../client/chat/chat";
import { Inbox, unread_of } from "../client/chat/inbox";
import { Log, type Item } from "../client/chat/log";
import { UnsentQueue, type Unsent } from "../client/chat/unsent";
import { Presences, Receipts, Typing, Writing } from "../client/chat/hints";
import { Conversations, type Conversation } from "../client/conversations";
import { Http } from "../client/http";
import { local_locks } from "../client/locks";
import { Refused } from "../client/problem";
import { Socket } from "../client/socket";
import { memory_store, Tokens } from "../client/tokens";
import { Users } from "../client/users";
import type { Entry, Sent } from "../client/wire";
import { ChatEngine, QUEUE_MAX, type Talk } from "./chat_engine";
import { fake_storage, FakeTimers, json, network_down, settle, signed_in } from "./fakes";

/** The same numbers for the same seed (mulberry32). */
function dice(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  };
}

function entry(seq: number, kind = "message", body: Record<string, unknown> = { text: `text ${seq}` }, sender = "user_bo", epoch = 1): Entry {
  return { conversation: "conv_1", epoch, seq, kind, sender, at: new Date(seq * 60_000).toISOString(), body };
}

function texts(items: readonly Item[]): string[] {
  return items.map((item) => (item.what === "message" ? item.text : `(${item.kind})`));
}

// The log

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

// The inbox

function conversation(id: string, more: Partial<Conversation> = {}): Conversation {
  return { id, kind: "group", title: id, epoch: 1, last_seq: 0, last_at: "1960-01-01T00:00:00.000Z", read_seq: 0, joined_seq: 0, unread: 0, role: "member", created_at: "1960-01-01T00:00:00.000Z", ...more };
}

test("the inbox puts the liveliest first and counts what is unread", () => {
  const inbox = new Inbox("user_ann");
  inbox.learn(conversation("conv_1", { last_seq: 2, read_seq: 2, last_entry: entry(2), last_at: entry(2).at }));
  inbox.learn(conversation("conv_2"));
  assert.deepEqual(inbox.sorted.map((one) => one.id), ["conv_1", "conv_2"]);
  assert.equal(inbox.put({ ...entry(1), conversation: "conv_2", at: "2026-01-01T00:00:00.000Z" }), true);
  assert.deepEqual(inbox.sorted.map((one) => [one.id, unread_of(one)]), [["conv_2", 1], ["conv_1", 0]]);
  assert.equal(inbox.put({ ...entry(1), conversation: "conv_3" }), false, "nobody knows it yet");
  assert.equal(inbox.put(entry(3, "message", {}, "user_bo", 2)), false, "another history");
  inbox.read("conv_2", 1);
  inbox.read("conv_2", 0);
  assert.equal(inbox.unread(0), 0);
  // A later look at the server does not undo what was pushed meanwhile.
  inbox.put(entry(3));
  inbox.learn(conversation("conv_1", { last_seq: 2, read_seq: 1, last_entry: entry(2), last_at: entry(2).at }));
  assert.deepEqual([inbox.get("conv_1")?.top, inbox.get("conv_1")?.read, inbox.get("conv_1")?.last?.seq], [3, 2, 3]);
});

test("what one says oneself is not unread", () => {
  const inbox = new Inbox("user_ann");
  inbox.learn(conversation("conv_1"));
  inbox.put(entry(1, "message", { text: "mine" }, "user_ann"));
  assert.equal(inbox.unread(0), 0);
  inbox.put(entry(2));
  assert.equal(inbox.unread(0), 1);
  inbox.put(entry(3, "reaction", { target: 2, emoji: "👍", on: true }, "user_ann"));
  assert.equal(inbox.unread(0), 0, "who writes has seen what came before");
  assert.equal(inbox.get("conv_1")?.last?.kind, "reaction");
});

// Hints

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

// What is unsent

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

// All of it, over a network that does what networks do

class World {
  readonly timers = new FakeTimers();
  readonly engine = new ChatEngine();
  readonly storage = fake_storage();
  readonly random: () => number;
  faults = false;
  /** Whether WebSockets get through. */
  sockets = true;
  chat!: Chat;
  #cut: (() => void)[] = [];

  constructor(seed: number) {
    this.random = dice(seed);
    this.timers.chance = 0.5;
    this.engine.now = () => this.timers.now();
    for (const name of ["ann", "bo"]) this.engine.user(name);
  }

  /** The page is opened, or loaded again. */
  loads(): void {
    const { timers } = this;
    const tokens = new Tokens({ store: memory_store(), locks: local_locks(), timers, exchange: async () => assert.fail("nothing is renewed here") });
    tokens.adopt(signed_in(1, 1_000_000));
    const http = new Http({ base_url: "", fetch: this.#fetch, timers, tokens });
    const socket = new Socket({ url: "wss://nova.test/v1/ws", tokens, timers, open: () => this.#dial() });
    this.chat = new Chat({ me: "user_ann", socket, conversations: new Conversations(http), users: new Users(http), timers, storage: this.storage });
    this.chat.start();
  }

  cut(): void {
    for (const cut of this.#cut.splice(0)) cut();
  }

  readonly #fetch: typeof fetch = async (input, init) => {
    const fails = () => this.faults && this.random() < 0.1;
    await this.#delay();
    if (fails()) throw network_down();
    const body = typeof init?.body === "string" ? JSON.parse(init.body) : undefined;
    const answer = this.engine.request("user_ann", init?.method ?? "GET", String(input), body);
    const text = structuredClone(answer.body);
    await this.#delay();
    if (fails()) throw network_down();
    return answer.status === 204 ? new Response(null, { status: 204 }) : json(answer.status, text);
  };

  #delay(): Promise<void> {
    return new Promise((resolve) => this.timers.after(Math.floor(this.random() * 80), () => resolve()));
  }

  #dial() {
    const { timers, random } = this;
    let open = true;
    // What travels in one direction keeps its order, unless a fault mixes it.
    let [up_at, down_at] = [0, 0];
    const ws = {
      protocol: "nova.v1",
      onopen: null as ((event: never) => void) | null,
      onmessage: null as ((event: { data: unknown }) => void) | null,
      onclose: null as ((event: { code: number; reason: string }) => void) | null,
      send: (text: string) => {
        up_at = Math.max(up_at, timers.now() + random() * 40);
        timers.after(up_at - timers.now(), () => open && line.hear(JSON.parse(text)));
      },
      close: () => {
        open = false;
        line.close();
      },
    };
    const line = this.engine.connect("user_ann", "device_1", (message) => {
      const text = JSON.stringify(message);
      const push = text.startsWith('{"type":"entry"');
      const fault = this.faults && push ? random() : 1;
      if (fault < 0.05) return;
      const hear = () => open && ws.onmessage?.({ data: text });
      down_at = Math.max(down_at, timers.now() + random() * 40);
      timers.after(down_at - timers.now(), hear);
      if (fault < 0.1) timers.after(down_at - timers.now() + random() * 500, hear);
    });
    this.#cut.push(() => {
      if (!open) return;
      open = false;
      line.close();
      ws.onclose?.({ code: 1006, reason: "" });
    });
    timers.after(random() * 30, () => {
      if (this.sockets) return open && ws.onopen?.(undefined as never);
      open = false;
      ws.onclose?.({ code: 1006, reason: "" });
    });
    return ws;
  }
}

function fresh(talk: Talk, engine: ChatEngine): Log {
  const log = new Log();
  log.start(talk.epoch, talk.entries.map((one) => engine.shown(one)), talk.entries.length, true);
  return log;
}

async function story(seed: number): Promise<void> {
  const world = new World(seed);
  const { engine, timers, random } = world;
  const talks = [engine.talk("direct", ["user_ann", "user_bo"]), engine.talk("group", ["user_bo", "user_ann"], "Club")];
  for (let nth = 0; nth < random() * 70; nth += 1) engine.append(talks[nth % 2] as Talk, "user_bo", "message", { text: `old ${nth}` });
  world.faults = true;
  world.loads();
  let open = talks.map((talk) => world.chat.open(talk.id));
  const said: string[][] = [[], []];
  const bo_says = (talk: Talk) => {
    const roll = random();
    const target = talk.entries.filter((one) => one.kind === "message" && one.sender === "user_bo").at(-1)?.seq;
    if (roll < 0.7 || target === undefined) engine.append(talk, "user_bo", "message", { text: `bo ${talk.entries.length}` });
    else if (roll < 0.8) engine.append(talk, "user_bo", "edit", { target, text: `bo better ${talk.entries.length}` });
    else if (roll < 0.9) engine.append(talk, "user_bo", "reaction", { target, emoji: "🎉", on: random() < 0.7 });
    else engine.append(talk, "user_bo", "delete", { target });
  };
  for (let step = 0; step < 60; step += 1) {
    const nth = Math.floor(random() * 2);
    const talk = talks[nth] as Talk;
    const roll = random();
    if (roll < 0.35) bo_says(talk);
    else if (roll < 0.65) {
      const text = `ann ${seed}.${step}`;
      world.chat.say(talk.id, text);
      said[nth]?.push(text);
    } else if (roll < 0.75) world.cut();
    else if (roll < 0.8) for (let many = 0; many <= QUEUE_MAX + 3; many += 1) bo_says(talk);
    else if (roll < 0.82) {
      world.sockets = random() < 0.5;
      world.cut();
    } else if (roll < 0.84) {
      world.chat.stop();
      world.cut();
      world.loads();
      open = talks.map((one) => world.chat.open(one.id));
    } else if (roll < 0.87) void world.chat.read_older(talk.id).catch(() => {});
    else if (roll < 0.9) world.chat.seen(talk.id, open[nth]?.talk.log.high ?? 0);
    await timers.pass(Math.floor(random() * 400));
  }
  world.faults = false;
  world.sockets = true;
  // What was dropped last is noticed with whatever comes next.
  await timers.pass(40_000);
  for (const talk of talks) engine.append(talk, "user_bo", "message", { text: "the end" });
  await timers.pass(90_000);

  for (const [nth, talk] of talks.entries()) {
    const about = `seed ${seed}, conversation ${nth}`;
    const shown = open[nth]?.talk ?? assert.fail();
    assert.equal(shown.state, "ready", about);
    const wanted = fresh(talk, engine);
    assert.equal(shown.log.high, talk.entries.length, about);
    assert.deepEqual(shown.log.items, wanted.items.filter((item) => item.seq >= shown.log.low), about);
    const mine = talk.entries.filter((one) => one.sender === "user_ann" && one.kind === "message").map((one) => one.body["text"]);
    assert.deepEqual(mine, said[nth], `${about}: everything once, in order`);
    const summary = world.chat.inbox.get(talk.id) ?? assert.fail();
    assert.equal(summary.top, talk.entries.length, about);
    assert.equal(summary.last?.seq, engine.conversation(talk, "user_ann").last_entry?.seq, about);
    assert.equal(unread_of(summary), engine.conversation(talk, "user_ann").unread, `${about}: unread`);
    world.chat.seen(talk.id, summary.top);
  }
  await timers.pass(2_000);
  for (const talk of talks) assert.equal(engine.conversation(talk, "user_ann").unread, 0, `seed ${seed}`);
  assert.deepEqual([world.chat.unsent.of().length, world.storage.length], [0, 0], `seed ${seed}: nothing waits`);
  world.chat.stop();
}

test("whatever the network does, what is shown equals a fresh look, and everything is said once: 150 seeds", async () => {
  for (let seed = 1; seed <= 150; seed += 1) await story(seed);
});

test("when the history is lost, what is shown is the other one", async () => {
  const world = new World(7);
  const { engine, timers } = world;
  const talk = engine.talk("direct", ["user_ann", "user_bo"]);
  for (let nth = 0; nth < 10; nth += 1) engine.append(talk, "user_bo", "message", { text: `old ${nth}` });
  world.loads();
  const { talk: shown } = world.chat.open(talk.id);
  await timers.pass(1_000);
  assert.equal(shown.log.high, 10);
  world.cut();
  engine.lose_history(talk, 4);
  engine.append(talk, "user_bo", "message", { text: "anew" });
  await timers.pass(5_000);
  assert.deepEqual([shown.log.epoch, texts(shown.log.items).at(-1), shown.log.high], [2, "anew", 5]);
  // And while the connection stands.
  engine.lose_history(talk, 2);
  engine.append(talk, "user_bo", "message", { text: "and anew" });
  await timers.pass(5_000);
  assert.deepEqual(texts(shown.log.items), ["old 0", "old 1", "and anew"]);
  assert.deepEqual([world.chat.inbox.get(talk.id)?.top, world.chat.inbox.get(talk.id)?.epoch], [3, 3]);
  world.chat.stop();
});

test("where no socket gets through, everything goes over REST, once, and back to the socket when it can", async () => {
  const world = new World(11);
  const { engine, timers } = world;
  const talk = engine.talk("direct", ["user_ann", "user_bo"]);
  world.sockets = false;
  world.loads();
  const { talk: shown } = world.chat.open(talk.id);
  await timers.pass(1_000);
  world.chat.say(talk.id, "one");
  world.chat.react(talk.id, 1, "🎉", true);
  world.chat.say(talk.id, "two");
  await timers.pass(2_000);
  assert.equal(talk.entries.length, 0, "a moment's absence is no reason yet");
  await timers.pass(3_000);
  assert.deepEqual(texts(shown.log.items), ["one", "two"]);
  assert.equal(world.chat.slow, true);
  engine.append(talk, "user_bo", "message", { text: "three" });
  const own = talk.entries[0]?.seq ?? 0;
  world.chat.edit(talk.id, own, "one!");
  world.chat.delete(talk.id, 2);
  await timers.pass(6_000);
  assert.deepEqual(texts(shown.log.items), ["one!", "", "three"]);
  world.chat.seen(talk.id, 3);
  await timers.pass(6_000);
  assert.equal(engine.conversation(talk, "user_ann").unread, 0);
  assert.deepEqual(world.chat.unsent.of().map((one) => one.type), ["react"], "a reaction waits for the socket");
  world.sockets = true;
  await timers.pass(60_000);
  assert.deepEqual([world.chat.slow, world.chat.connection.name, world.chat.unsent.of().length], [false, "online", 0]);
  world.chat.say(talk.id, "four");
  await timers.pass(1_000);
  assert.deepEqual(texts(shown.log.items), ["one!", "", "three", "four"]);
  assert.equal(talk.entries.filter((one) => one.kind === "message").length, 4);
  world.chat.stop();
});

test("acknowledgements of a burst travel together", async () => {
  const world = new World(1);
  const talk = world.engine.talk("direct", ["user_ann", "user_bo"]);
  world.loads();
  await world.timers.pass(1_000);
  const before = talk.members.get("user_ann")?.delivered_seq;
  for (let nth = 0; nth < 50; nth += 1) world.engine.append(talk, "user_bo", "message", { text: String(nth) });
  await world.timers.pass(100);
  assert.equal(talk.members.get("user_ann")?.delivered_seq, before);
  await world.timers.pass(1_000);
  assert.equal(talk.members.get("user_ann")?.delivered_seq, 50);
  world.chat.stop();
});

test("whoever is no longer a member is told so, and it leaves the inbox", async () => {
  const world = new World(2);
  const talk = world.engine.talk("group", ["user_bo", "user_ann"], "Club");
  world.loads();
  const { talk: shown } = world.chat.open(talk.id);
  await world.timers.pass(1_000);
  assert.equal(world.chat.inbox.sorted.length, 1);
  world.engine.request("user_bo", "DELETE", `/v1/conversations/${talk.id}/members/user_ann`, undefined);
  await world.timers.pass(2_000);
  assert.equal(world.chat.inbox.sorted.length, 0);
  assert.equal(shown.state, "closed");
  world.chat.stop();
});
