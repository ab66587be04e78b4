/** The whole chat, over a network that does what networks do. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Chat } from "../client/chat/chat";
import { unread_of } from "../client/chat/inbox";
import { Log } from "../client/chat/log";
import { Conversations } from "../client/conversations";
import { Http } from "../client/http";
import { local_locks } from "../client/locks";
import { Socket } from "../client/socket";
import { memory_store, Tokens } from "../client/tokens";
import { Users } from "../client/users";
import { ChatEngine, QUEUE_MAX, type Talk } from "./chat_engine";
import { texts } from "./entries";
import { dice, fake_storage, FakeTimers, json, network_down, signed_in } from "./fakes";

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
