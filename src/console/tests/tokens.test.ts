import assert from "node:assert/strict";
import { test } from "node:test";
import { Nova } from "../client";
import { local_locks, storage_locks, type Locks } from "../client/locks";
import { storage_store, Tokens, type Ending, type Session, type TokenStore } from "../client/tokens";
import { FakeEngine, FakeTimers, fake_storage, json, network_down, refusal, settle, signed_in } from "./fakes";

/** Several tabs of one browser: they share storage and hear of each other's writes. */
function browser() {
  const storage = fake_storage();
  const watchers = new Map<object, () => void>();
  return {
    storage,
    store(): TokenStore {
      const plain = storage_store(storage);
      const me = {};
      return {
        read: plain.read,
        write(session) {
          plain.write(session);
          for (const [tab, changed] of watchers) if (tab !== me) changed();
        },
        watch(changed) {
          watchers.set(me, changed);
          return () => watchers.delete(me);
        },
      };
    },
  };
}

function tab(engine: FakeEngine, timers: FakeTimers, store: TokenStore, locks: Locks): Nova {
  return new Nova({ base_url: "", fetch: engine.fetch, timers, store, locks });
}

test("a log-in is kept, and its token is used until shortly before its end", async () => {
  const engine = new FakeEngine(json(201, signed_in(1)), json(200, {}), json(200, signed_in(2)), json(200, {}));
  const timers = new FakeTimers();
  const nova = tab(engine, timers, browser().store(), local_locks());
  await nova.sessions.log_in({ login: "ann", password: "secret" });
  await nova.accounts.me();
  assert.equal(engine.header(1, "authorization"), "Bearer access-1");
  await timers.pass(871_000);
  await nova.accounts.me();
  assert.deepEqual(engine.seen.slice(2).map((seen) => seen.path), ["/v1/sessions/refresh", "/v1/me"]);
  assert.deepEqual(engine.seen[2]?.body, { refresh_token: "refresh-1" });
  assert.equal(engine.header(2, "authorization"), null);
  assert.equal(engine.header(3, "authorization"), "Bearer access-2");
});

test("ten requests at once renew once", async () => {
  const engine = new FakeEngine(json(201, signed_in(1)), json(200, signed_in(2)));
  for (let nth = 0; nth < 10; nth += 1) engine.then(json(200, {}));
  const timers = new FakeTimers();
  const nova = tab(engine, timers, browser().store(), local_locks());
  await nova.sessions.log_in({ login: "ann", password: "secret" });
  await timers.pass(899_000);
  await Promise.all(Array.from({ length: 10 }, () => nova.accounts.me()));
  assert.equal(engine.seen.filter((seen) => seen.path === "/v1/sessions/refresh").length, 1);
});

for (const [name, make] of [
  ["the browser's own locks", (_storage: Storage, _timers: FakeTimers) => { const shared = local_locks(); return () => shared; }],
  ["locks in storage", (storage: Storage, timers: FakeTimers) => () => storage_locks(storage, timers)],
] as const) {
  test(`two tabs never spend the same refresh token, with ${name}`, async () => {
    const timers = new FakeTimers();
    const shared = browser();
    const locks = make(shared.storage, timers);
    const engine = new FakeEngine(json(201, signed_in(1)));
    const one = tab(engine, timers, shared.store(), locks());
    await one.sessions.log_in({ login: "ann", password: "secret" });
    const two = tab(engine, timers, shared.store(), locks());
    assert.equal(two.tokens.session?.access_token, "access-1");

    await timers.pass(899_000);
    engine.then(json(200, signed_in(2)));
    const both = Promise.all([one.tokens.access(), two.tokens.access()]);
    await timers.pass(3_000);
    assert.deepEqual(await both, ["access-2", "access-2"]);
    assert.equal(engine.seen.length, 2);
  });
}

test("a lock whose holder vanished is free again after its lease", async () => {
  const timers = new FakeTimers();
  const storage = fake_storage();
  void storage_locks(storage, timers).hold("x", () => new Promise(() => {}));
  await timers.pass(500);
  // The holder's tab is killed: its timers never run again, its lease stays behind.
  const lease = storage.getItem("lock:x");
  assert.ok(lease);
  const later = new FakeTimers();
  await later.pass(600);
  let entered = false;
  void storage_locks(storage, later).hold("x", async () => {
    entered = true;
  });
  await later.pass(5_000);
  assert.equal(entered, false);
  await later.pass(6_000);
  assert.equal(entered, true);
});

test("a renewal whose answer was lost is repeated under the same key, also by another tab, also later", async () => {
  const timers = new FakeTimers();
  const shared = browser();
  const engine = new FakeEngine(json(201, signed_in(1)), network_down(), network_down(), network_down(), network_down());
  const one = tab(engine, timers, shared.store(), local_locks());
  await one.sessions.log_in({ login: "ann", password: "secret" });
  await timers.pass(899_000);
  const lost = one.tokens.access().catch((error: unknown) => error);
  await timers.pass(60_000);
  assert.equal(((await lost) as { code: string }).code, "unreachable");
  assert.ok(one.tokens.session, "a cut network logs nobody out");

  engine.then(json(200, signed_in(2)));
  const two = tab(engine, timers, shared.store(), local_locks());
  assert.equal(await two.tokens.access(), "access-2");
  const keys = new Set(engine.seen.slice(1).map((seen) => seen.headers.get("idempotency-key")));
  assert.equal(keys.size, 1);
  assert.equal(one.tokens.session?.access_token, "access-2", "the first tab learns of it");
});

test("a token the engine does not take is renewed once and the request repeated", async () => {
  const engine = new FakeEngine(json(201, signed_in(1)), refusal(401, "invalid_token"), json(200, signed_in(2)), json(200, { id: "user_ann" }));
  const nova = tab(engine, new FakeTimers(), browser().store(), local_locks());
  await nova.sessions.log_in({ login: "ann", password: "secret" });
  await nova.accounts.me();
  assert.deepEqual(engine.seen.map((seen) => seen.path), ["/v1/sessions", "/v1/me", "/v1/sessions/refresh", "/v1/me"]);

  engine.then(refusal(401, "invalid_token"), json(200, signed_in(3)), refusal(401, "invalid_token"));
  await assert.rejects(nova.accounts.me(), { code: "invalid_token" });
});

test("a wrong password is not a wrong token", async () => {
  const engine = new FakeEngine(refusal(401, "totp_required"));
  const nova = tab(engine, new FakeTimers(), browser().store(), local_locks());
  await assert.rejects(nova.sessions.log_in({ login: "ann", password: "secret" }), { code: "totp_required" });
  assert.equal(engine.seen.length, 1);
});

test("a revoked session ends here with its reason, and in every tab", async () => {
  const timers = new FakeTimers();
  const shared = browser();
  const engine = new FakeEngine(json(201, signed_in(1)), refusal(401, "session_revoked"));
  const one = tab(engine, timers, shared.store(), local_locks());
  await one.sessions.log_in({ login: "ann", password: "secret" });
  const two = tab(engine, timers, shared.store(), local_locks());
  const endings: (Ending | null)[] = [];
  two.tokens.watch((_, ending) => endings.push(ending));
  one.tokens.watch((_, ending) => endings.push(ending));
  await timers.pass(899_000);
  await assert.rejects(one.accounts.me(), { code: "session_revoked" });
  assert.deepEqual(endings, ["logged_out", "session_revoked"]);
  assert.deepEqual([one.tokens.session, two.tokens.session], [null, null]);
});

test("a busy engine logs nobody out", async () => {
  const timers = new FakeTimers();
  const replies = Array.from({ length: 4 }, () => refusal(503, "overloaded"));
  const engine = new FakeEngine(json(201, signed_in(1)), ...replies);
  const nova = tab(engine, timers, browser().store(), local_locks());
  await nova.sessions.log_in({ login: "ann", password: "secret" });
  await timers.pass(899_000);
  const access = nova.tokens.access().catch((error: unknown) => error);
  await timers.pass(60_000);
  assert.equal(((await access) as { code: string }).code, "overloaded");
  assert.ok(nova.tokens.session);
});

test("who logs out while a renewal is under way stays logged out", async () => {
  const timers = new FakeTimers();
  const shared = browser();
  let answer: (response: Response) => void = () => {};
  const engine = new FakeEngine(json(201, signed_in(1)), () => new Promise<Response>((resolve) => { answer = resolve; }));
  const one = tab(engine, timers, shared.store(), local_locks());
  await one.sessions.log_in({ login: "ann", password: "secret" });
  const two = tab(engine, timers, shared.store(), local_locks());
  await timers.pass(899_000);
  const renewing = one.tokens.access();
  await settle();
  two.tokens.drop("logged_out");
  answer(json(200, signed_in(2)));
  assert.equal(await renewing, null);
  assert.deepEqual([one.tokens.session, two.tokens.session], [null, null]);
});

test("logging out forgets the session even when the engine cannot be told", async () => {
  const timers = new FakeTimers();
  const engine = new FakeEngine(json(201, signed_in(1)), network_down(), network_down());
  const nova = tab(engine, timers, browser().store(), local_locks());
  await nova.sessions.log_in({ login: "ann", password: "secret" });
  const leaving = nova.sessions.log_out();
  await timers.pass(10_000);
  assert.equal(await leaving, false);
  assert.equal(nova.tokens.session, null);
});

test("what lies in storage and is not ours is nobody's session", () => {
  const storage = fake_storage();
  const store = storage_store(storage);
  for (const text of ["", "{", "null", "[]", '{"refresh_token":1}', '"x"']) {
    storage.setItem("nova.session", text);
    assert.equal(withWindow(() => new Tokens({ store, locks: local_locks(), timers: new FakeTimers(), exchange: async () => signed_in(1) }).session), null, text);
  }
});

/** `storage_store` listens on the window. */
function withWindow(work: () => Session | null): Session | null {
  const scope = globalThis as { addEventListener?: unknown };
  const before = scope.addEventListener;
  scope.addEventListener = () => {};
  try {
    return work();
  } finally {
    scope.addEventListener = before;
  }
}
