import assert from "node:assert/strict";
import { test } from "node:test";
import { Behaviour, event_id } from "../client/behaviour";
import { Http } from "../client/http";
import { FakeEngine, FakeTimers, json, network_down, refusal } from "./fakes";

function world(...replies: ConstructorParameters<typeof FakeEngine>) {
  const engine = new FakeEngine(...replies);
  const timers = new FakeTimers();
  const http = new Http({ base_url: "https://nova.test", fetch: engine.fetch, timers });
  const events = (nth: number) => (engine.seen[nth]?.body as { events: { id: string; post: string; at: string; dwell_ms?: number }[] }).events;
  return { engine, timers, events, behaviour: new Behaviour(http, timers) };
}

test("what is done is gathered for five seconds and sent at once", async () => {
  const { engine, timers, events, behaviour } = world(json(202, { accepted: 2, ignored: 0 }));
  behaviour.note({ action: "impression", post: "post_a", position: 0, level: "newest", model: "chronological" });
  await timers.pass(3_000);
  behaviour.note({ action: "dwell", post: "post_a", dwell_ms: 1_499.6 });
  assert.equal(engine.seen.length, 0);
  await timers.pass(2_000);
  assert.deepEqual(events(0).map((one) => [one.post, one.dwell_ms]), [["post_a", undefined], ["post_a", 1_500]]);
  assert.equal(engine.seen[0]?.path, "https://nova.test/v1/events");
  await timers.pass(60_000);
  assert.equal(engine.seen.length, 1, "nothing is sent when nothing was done");
});

test("a hundred wait for nobody, and an engine that is away hears the same events later", async () => {
  const { engine, timers, events, behaviour } = world(network_down(), json(202, {}), json(202, {}));
  for (let nth = 0; nth < 130; nth += 1) behaviour.note({ action: "impression", post: `post_${nth}`, position: nth });
  await timers.pass(0);
  assert.equal(engine.seen.length, 1);
  await timers.pass(5_000);
  assert.equal(engine.seen.length, 3);
  assert.deepEqual(events(1), events(0), "with the same ids");
  assert.deepEqual([...events(1), ...events(2)].map((one) => one.post), Array.from({ length: 130 }, (_, nth) => `post_${nth}`));
});

test("what is refused is dropped, and what waits has a bound", async () => {
  const refused = world(refusal(422, "invalid_fields"), json(202, {}));
  refused.behaviour.note({ action: "open", post: "post_wrong" });
  await refused.timers.pass(5_000);
  refused.behaviour.note({ action: "open", post: "post_right" });
  await refused.timers.pass(5_000);
  assert.deepEqual(refused.events(1).map((one) => one.post), ["post_right"]);

  const away = world(...Array.from({ length: 40 }, () => network_down()));
  for (let nth = 0; nth < 700; nth += 1) away.behaviour.note({ action: "impression", post: `post_${nth}` });
  await away.timers.pass(5_000);
  const last = away.events(away.engine.seen.length - 1);
  assert.equal(last[0]?.post, "post_200", "the oldest are given up");
});

test("ids are TypeIDs of a UUID version 7", () => {
  const id = event_id(1_800_000_000_000);
  assert.match(id, /^event_[0-7][0-9a-hjkmnp-tv-z]{25}$/);
  assert.ok(id < event_id(1_800_000_000_001), "they sort by time");
  assert.notEqual(event_id(5), event_id(5));
});
