/** The parts of the console that need no page. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { Problem, Unreachable } from "../client";
import { found_in, groups_of, messages_of, type AsyncApi, type OpenApi } from "../docs/openapi";
import { flat, limits, resolve, sample, type_words } from "../docs/schema";
import { ago, day, device_name, sentence, words_of } from "../parts/words";
import { fits, next_of } from "../shell/router";

test("an address fits its pattern piece by piece", () => {
  assert.deepEqual(fits("/", "/"), {});
  assert.deepEqual(fits("/chat/:conversation", "/chat/conv_01"), { conversation: "conv_01" });
  assert.deepEqual(fits("/tags/:tag", "/tags/a%20b"), { tag: "a b" });
  for (const path of ["/chat", "/chat/a/b", "/other/a", "/tags/%zz"]) assert.equal(fits("/chat/:conversation", path) ?? fits("/tags/:tag", path), null, path);
});

test("a log-in leads only to places of the console", () => {
  const next = (text: string) => next_of(new URLSearchParams({ next: text }));
  assert.equal(next("/devices"), "/devices");
  assert.equal(next("/chat/conv_01?at=3"), "/chat/conv_01?at=3");
  for (const text of ["//evil.example", "https://evil.example", "javascript:alert(1)", "/\\evil.example", "devices", ""]) assert.equal(next(text), "/", text);
  assert.equal(next_of(new URLSearchParams()), "/");
});

test("every failure says what to do", () => {
  assert.match(words_of(new Unreachable("unreachable", "x")), /Check your connection/);
  assert.match(words_of(new Problem(429, { code: "rate_limited" }, 12_000)), /Wait 12 seconds/);
  assert.match(words_of(new Problem(503, { code: "overloaded" }, 600_000)), /Wait 10 minutes/);
  assert.match(words_of(new Problem(500, { code: "internal", request_id: "req_9" })), /req_9/);
  assert.equal(words_of(new Problem(409, { code: "conflict", detail: "one is set up already" })), "One is set up already.");
  assert.match(words_of(new Problem(502, {})), /answered 502/);
  assert.match(words_of(new TypeError("x is undefined")), /Reload/);
  assert.equal(sentence("  what now? "), "What now?");
});

test("times are told as people tell them", () => {
  const now = Date.parse("2026-11-21T12:00:00Z");
  const told = ["2026-11-21T11:59:30Z", "2026-11-21T11:59:00Z", "2026-11-21T09:30:00Z", "2026-11-20T11:00:00Z", "2026-11-01T12:00:00Z", "2026-11-21T12:00:05Z", "soon"].map((at) => ago(at, now));
  assert.deepEqual(told, ["just now", "1 minute ago", "2 hours ago", "yesterday", "2 weeks ago", "just now", "at an unknown time"]);
  assert.equal(day("2026-11-21T12:00:00Z"), "21 November 2026");
});

test("browsers are called by their names", () => {
  const named = {
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36": "Chrome on Linux",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0 Safari/537.36 Edg/156.0": "Edge on Windows",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 19_0 like Mac OS X) AppleWebKit/605.1 (KHTML, like Gecko) Version/19.0 Mobile Safari/604.1": "Safari on iPhone",
    "Mozilla/5.0 (Android 16; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0": "Firefox on Android",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/19.0 Safari/605.1.15": "Safari on macOS",
    "curl/8": "Browser",
  };
  for (const [agent, name] of Object.entries(named)) assert.equal(device_name(agent), name);
});

const REST: OpenApi = {
  openapi: "3.1.0",
  info: { title: "Nova", version: "1" },
  tags: [{ name: "users" }, { name: "empty" }],
  security: [{ bearer: [] }],
  paths: {
    "/v1/users/{id}": {
      parameters: [{ name: "id", in: "path", required: true, schema: { type: "string" } }],
      get: { operationId: "user", tags: ["users"], summary: "Somebody" },
    },
    "/livez": { get: { tags: ["operations"], security: [] } },
  },
};

test("calls are grouped by tag, know their path's parameters and whether they need a token", () => {
  const groups = groups_of(REST);
  assert.deepEqual(groups.map((group) => group.name), ["users", "operations"]);
  const [user, livez] = groups.flatMap((group) => group.calls);
  assert.deepEqual([user?.id, user?.method, user?.locked, user?.parameters[0]?.name], ["op-user", "GET", true, "id"]);
  assert.equal(livez?.locked, false);
  assert.ok(user && found_in(user, "some users") && !found_in(user, "livez"));
});

test("a document's references are followed, and those that lead nowhere or round in a circle end", () => {
  const document = { a: { $ref: "#/b~1c" }, "b/c": { type: "string" }, loop: { $ref: "#/loop" } };
  assert.deepEqual(resolve(document, { $ref: "#/a" }), { type: "string" });
  assert.equal(resolve(document, { $ref: "#/loop" }), undefined);
  assert.equal(resolve(document, { $ref: "#/none/at/all" }), undefined);
  assert.equal(resolve(document, { $ref: "https://elsewhere.example/x" }), undefined);
});

test("schemas are told in words and by example", () => {
  const document = {
    components: {
      schemas: {
        User: { type: "object", required: ["id"], properties: { id: { type: "string" }, friend: { $ref: "#/components/schemas/User" } } },
        Size: { type: "integer", minimum: 1, maximum: 100 },
      },
    },
  };
  const user = { $ref: "#/components/schemas/User" };
  assert.equal(type_words(document, { type: "array", items: user }), "array of User");
  assert.equal(type_words(document, { oneOf: [user, { type: "null" }] }), "User or null");
  assert.equal(type_words(document, { $ref: "#/components/schemas/Size" }), "integer");
  assert.equal(type_words(document, { type: ["string", "null"], format: "date-time" }), "string (date-time) or null");
  assert.deepEqual(limits({ minimum: 1, maximum: 100, default: 20 }), ["1 to 100", "20 when absent"]);
  assert.deepEqual(limits({ enum: ["a", "b"], maxLength: 3 }), ["at most 3 characters", 'one of "a", "b"']);
  const whole = flat(document, { allOf: [user, { properties: { age: { type: "integer" } }, required: ["age"] }] });
  assert.deepEqual(Object.keys(whole.properties ?? {}).sort(), ["age", "friend", "id"]);
  assert.deepEqual([...(whole.required ?? [])].sort(), ["age", "id"]);
  assert.doesNotThrow(() => JSON.stringify(sample(document, user)), "a schema within itself ends");
  assert.deepEqual(sample(document, { properties: { n: { type: "integer", minimum: 3 }, s: { type: "string", example: "x" } } }), { n: 3, s: "x" });
});

test("what the engine receives, the client sends", () => {
  const document: AsyncApi = {
    asyncapi: "3.0.0",
    info: { title: "Nova", version: "1" },
    channels: {
      socket: { messages: { send: { name: "send", summary: "Say something.", payload: { type: "object" } }, sent: { name: "sent" }, entry: { name: "entry" } } },
    },
    operations: {
      say: { action: "receive", channel: { $ref: "#/channels/socket" }, messages: [{ $ref: "#/channels/socket/messages/send" }], reply: { messages: [{ $ref: "#/channels/socket/messages/sent" }] } },
      push: { action: "send", channel: { $ref: "#/channels/socket" }, messages: [{ $ref: "#/channels/socket/messages/entry" }] },
    },
  };
  const told = messages_of(document).map((one) => [one.from, one.name, one.words, one.replies.map((reply) => reply.name).join()]);
  assert.deepEqual(told, [["client", "send", "Say something.", "sent"], ["server", "entry", null, ""]]);
});
