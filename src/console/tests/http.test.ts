import assert from "node:assert/strict";
import { test } from "node:test";
import { Http } from "../client/http";
import { take, walk } from "../client/paging";
import { NovaError, Problem, retry_after, Unreachable } from "../client/problem";
import { FakeEngine, FakeTimers, json, network_down, refusal, settle } from "./fakes";

function world(...replies: ConstructorParameters<typeof FakeEngine>) {
  const engine = new FakeEngine(...replies);
  const timers = new FakeTimers();
  return { engine, timers, http: new Http({ base_url: "https://nova.test", fetch: engine.fetch, timers }) };
}

test("an answer carries its data and its version", async () => {
  const { http, engine } = world(json(200, { id: "user_ann" }, { etag: '"3"' }));
  const answer = await http.get<{ id: string }>("/v1/me", { query: { limit: 5, cursor: null, q: "a b" } });
  assert.deepEqual([answer.status, answer.data.id, answer.etag], [200, "user_ann", '"3"']);
  assert.equal(engine.seen[0]?.path, "https://nova.test/v1/me?limit=5&q=a+b");
  assert.equal(engine.header(0, "idempotency-key"), null);
});

test("a refusal is a Problem with its code, its fields and its request id", async () => {
  const body = { title: "t", status: 422, detail: "d", code: "invalid_fields", request_id: "req_7", errors: [{ field: "email", message: "not an address" }] };
  const { http } = world(json(422, body, { "content-type": "application/problem+json" }));
  await assert.rejects(http.post("/v1/accounts", {}), (error: unknown) => {
    assert.ok(error instanceof Problem && error instanceof NovaError && error instanceof Error);
    assert.deepEqual([error.code, error.status, error.request_id, error.of("email"), error.of("name")], ["invalid_fields", 422, "req_7", "not an address", null]);
    return true;
  });
});

test("a page of somebody in between is a Problem too", async () => {
  const { http } = world(new Response("<h1>no</h1>", { status: 403, headers: { "content-type": "text/html" } }));
  await assert.rejects(http.get("/v1/me"), { code: "unexpected_answer", status: 403 });
  const other = world(new Response("<h1>hotel</h1>", { status: 200 }));
  await assert.rejects(other.http.get("/v1/me"), { code: "unexpected_answer" });
});

test("a POST keeps its idempotency key through all its repetitions, and another POST has another", async () => {
  const { http, engine, timers } = world(network_down(), refusal(503, "overloaded"), json(201, { ok: true }), json(201, {}));
  const posting = http.post("/v1/posts", { text: "hello" });
  await timers.pass(10_000);
  assert.equal((await posting).status, 201);
  await http.post("/v1/posts", { text: "hello" });
  const keys = engine.seen.map((seen) => seen.headers.get("idempotency-key"));
  assert.match(keys[0] ?? "", /^[0-9a-f]{32}$/);
  assert.deepEqual([keys[1], keys[2]], [keys[0], keys[0]]);
  assert.notEqual(keys[3], keys[0]);
});

test("Retry-After is honoured to the moment, and no other request is made before", async () => {
  const { http, engine, timers } = world(refusal(429, "rate_limited", { "retry-after": "3" }), json(200, {}));
  timers.chance = 0;
  const reading = http.get("/v1/me");
  await timers.pass(2_999);
  assert.equal(engine.seen.length, 1);
  await timers.pass(200);
  assert.equal(engine.seen.length, 2);
  await reading;
});

test("who is asked to wait long is told so instead", async () => {
  const { http, engine } = world(refusal(429, "rate_limited", { "retry-after": "60" }));
  await assert.rejects(http.get("/v1/me"), { code: "rate_limited", retry_after_ms: 60_000 });
  assert.equal(engine.seen.length, 1);
});

test("Retry-After may be a date, and nonsense is no answer", () => {
  const now = Date.parse("2026-11-21T10:00:00Z");
  assert.equal(retry_after("Sat, 21 Nov 2026 10:00:07 GMT", now), 7_000);
  assert.equal(retry_after("Sat, 21 Nov 2026 09:00:00 GMT", now), 0);
  assert.equal(retry_after("soon", now), null);
  assert.equal(retry_after(null, now), null);
});

test("back-off grows and is drawn by chance", async () => {
  const waits: number[][] = [];
  for (const chance of [0, 0.999]) {
    const { http, timers } = world(network_down(), network_down(), network_down(), network_down());
    timers.chance = chance;
    const reading = http.get("/v1/me").catch((error: unknown) => error);
    const seen: number[] = [];
    for (let nth = 0; nth < 3; nth += 1) {
      await settle();
      // The nearer timer is the pause; the request's own time-out was taken back.
      seen.push(timers.next_ms() ?? -1);
      await timers.pass(timers.next_ms() ?? 0);
    }
    waits.push(seen.map(Math.round));
    assert.ok((await reading) instanceof Unreachable);
  }
  assert.deepEqual(waits[0], [150, 300, 600]);
  assert.deepEqual(waits[1], [300, 600, 1199]);
});

test("what may have been done is not repeated where that could hurt", async () => {
  const patch = world(network_down());
  await assert.rejects(patch.http.patch("/v1/me", { bio: "x" }, { if_match: '"1"' }), { code: "unreachable" });
  assert.equal(patch.engine.seen.length, 1);
  assert.equal(patch.engine.header(0, "if-match"), '"1"');

  const proof = world(network_down());
  await assert.rejects(proof.http.delete("/v1/totp", { body: { code: "123456" } }), { code: "unreachable" });
  assert.equal(proof.engine.seen.length, 1);
});

test("a refused PATCH may be repeated: nothing was done", async () => {
  const { http, timers } = world(refusal(503, "overloaded", { "retry-after": "1" }), json(200, {}));
  const changing = http.patch("/v1/me", { bio: "x" });
  await timers.pass(5_000);
  assert.equal((await changing).status, 200);
});

test("a DELETE whose first answer was lost is done when the second finds nothing", async () => {
  const lost = world(network_down(), refusal(404, "not_found"));
  const deleting = lost.http.delete("/v1/sessions/device_2");
  await lost.timers.pass(5_000);
  assert.equal((await deleting).status, 204);

  const never = world(refusal(404, "not_found"));
  await assert.rejects(never.http.delete("/v1/sessions/device_2"), { code: "not_found" });
});

test("a refusal that is about the request is not repeated", async () => {
  for (const [status, code] of [[400, "malformed_json"], [404, "not_found"], [409, "username_taken"], [500, "internal"]] as const) {
    const { http, engine } = world(refusal(status, code));
    await assert.rejects(http.post("/v1/x"), { code });
    assert.equal(engine.seen.length, 1, code);
  }
});

test("a first try that still runs is waited for", async () => {
  const { http, timers } = world(refusal(409, "request_in_progress"), json(201, { id: 1 }));
  const posting = http.post("/v1/posts", {});
  await timers.pass(5_000);
  assert.equal((await posting).status, 201);
});

test("an answer that does not come is given up, and so is the person's patience", async () => {
  const timers = new FakeTimers();
  const aborting: typeof fetch = (_, init) =>
    new Promise((_resolve, reject) => init?.signal?.addEventListener("abort", () => reject(init.signal?.reason)));
  const http = new Http({ base_url: "", fetch: aborting, timers });
  const slow = http.get("/v1/me", { tries: 1, timeout_ms: 2_000 }).catch((error: unknown) => error);
  await timers.pass(2_000);
  const outcome = await slow;
  assert.ok(outcome instanceof Unreachable && outcome.code === "timed_out");

  const abort = new AbortController();
  const left = http.get("/v1/me", { signal: abort.signal }).catch((error: unknown) => error);
  await settle();
  abort.abort(new Error("left the page"));
  assert.equal(((await left) as Error).message, "left the page");
});

test("what did not change is not sent twice", async () => {
  const { http, engine } = world(json(200, { bio: "one" }, { etag: '"1"' }), new Response(null, { status: 304 }), json(200, { bio: "two" }, { etag: '"2"' }));
  const first = await http.get<{ bio: string }>("/v1/me");
  assert.equal(await http.again("/v1/me", first), first);
  assert.equal(engine.header(1, "if-none-match"), '"1"');
  assert.equal((await http.again("/v1/me", first)).data.bio, "two");
});

test("a list is walked to its end, over an empty page too", async () => {
  const pages: Record<string, { items: number[]; next_cursor?: string }> = {
    "": { items: [1, 2], next_cursor: "a" },
    a: { items: [], next_cursor: "b" },
    b: { items: [3] },
  };
  let asked = 0;
  const list = () =>
    walk(async (cursor) => {
      asked += 1;
      return pages[cursor ?? ""] ?? { items: [] };
    });
  const all: number[] = [];
  for await (const item of list()) all.push(item);
  assert.deepEqual(all, [1, 2, 3]);
  asked = 0;
  assert.deepEqual(await take(list(), 2), [1, 2]);
  assert.equal(asked, 1, "pages nobody looks at are not fetched");
  await assert.rejects(take(walk(async () => ({ items: [], next_cursor: "x" })), 1), { code: "unexpected_answer" });
});
