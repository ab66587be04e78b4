/** What chat says to people. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { Entry, SocketState } from "../client";
import { begins_day, connection_words, day_words, last_words, mentioned, moment_words, naming_at, notice_words, pieces_of, typing_words } from "../parts/chat_words";

const NAMES = new Map([["ann", "user_ann"], ["bodo", "user_bo"], ["zoë", "user_zoe"]]);
const person = (id: string) => ({ id, username: id.slice(5), display_name: id === "user_bo" ? "Bodo" : id.slice(5), bio: "", created_at: "" });

test("a text is cut into words, links and the members it names, and is never HTML", () => {
  assert.deepEqual(pieces_of("<b>see https://example.org/a?b=c.</b> @Bodo, @zoë! me@ann.example @nobody", NAMES, "user_zoe"), [
    { what: "text", text: "<b>see " },
    { what: "link", text: "https://example.org/a?b=c", href: "https://example.org/a?b=c" },
    { what: "text", text: ".</b> " },
    { what: "mention", text: "@Bodo", me: false },
    { what: "text", text: ", " },
    { what: "mention", text: "@zoë", me: true },
    { what: "text", text: "! me@ann.example @nobody" },
  ]);
  assert.deepEqual(pieces_of("javascript:alert(1) data:text/html,x", NAMES, "user_ann"), [{ what: "text", text: "javascript:alert(1) data:text/html,x" }]);
  assert.deepEqual(mentioned("@ann. @ANN and @bodo @carl x@bodo", NAMES), ["user_ann", "user_bo"]);
});

test("a name is being typed after an @, and nowhere else", () => {
  assert.deepEqual(naming_at("hello @bo", 9), { start: 6, part: "bo" });
  assert.deepEqual(naming_at("@", 1), { start: 0, part: "" });
  for (const text of ["hello", "a@b", "@bo ", "hello @bo x"]) assert.equal(naming_at(text, text.length), null, text);
});

test("days begin where they do, and are called as people call them", () => {
  const now = new Date(2026, 10, 21, 9, 0).getTime();
  const told = [new Date(2026, 10, 21, 0, 1), new Date(2026, 10, 20, 23, 59), new Date(2026, 10, 3, 12), new Date(2024, 1, 29, 12)].map((date) => [day_words(date.getTime(), now).replace(",", ""), moment_words(date.toISOString(), now)]);
  // Whether a comma follows the weekday is a matter of how new the words of the machine are.
  assert.deepEqual(told, [["Today", "00:01"], ["Yesterday", "Yesterday"], ["Tuesday 3 November", "3 Nov"], ["29 February 2024", "29 Feb 2024"]]);
  const at = (date: Date) => ({ at: date.toISOString() });
  assert.ok(begins_day(at(new Date(2026, 10, 21, 0, 1)), at(new Date(2026, 10, 20, 23, 59))));
  assert.ok(!begins_day(at(new Date(2026, 10, 21, 23, 59)), at(new Date(2026, 10, 21, 0, 1))));
});

test("what happened last is told in one line", () => {
  const entry = (kind: string, body: Record<string, unknown>, sender = "user_bo"): Entry => ({ conversation: "c", epoch: 1, seq: 1, kind, sender, at: "2026-01-01T00:00:00.000Z", body });
  const words = (kind: string, body: Record<string, unknown>, sender?: string, direct = false) => last_words(entry(kind, body, sender), "user_ann", person, direct);
  assert.equal(words("message", { text: "a\n  b" }), "Bodo: a b");
  assert.equal(words("message", { text: "a" }, "user_bo", true), "a");
  assert.equal(words("message", { text: "a" }, "user_ann"), "You: a");
  assert.equal(words("message", { deleted: 4 }), "Bodo: Message deleted");
  assert.equal(words("message", { attachments: [{ media: "m", duration_ms: 65_400, waveform: "" }] }), "Bodo: Voice message, 1:05");
  assert.equal(words("message", { hidden: true }), "Bodo: A message that is not shown to you");
  assert.equal(words("edit", { target: 1, text: "b" }), "Bodo: b (edited)");
  assert.equal(words("delete", { target: 1 }), "Bodo deleted a message");
  assert.equal(words("reaction", { target: 1, emoji: "🎉", on: true }, "user_ann"), "You reacted with 🎉");
  assert.equal(words("member", { action: "added", user: "user_ann" }), "Bodo added you");
  assert.equal(words("title", { title: "Club" }), "Bodo called this conversation “Club”");
  assert.equal(last_words(null, "user_ann", person, false), "Nothing was said yet.");
  const notice = { what: "notice", seq: 1, sender: "user_bo", at: "", kind: "new_kind", body: {} } as const;
  assert.match(notice_words(notice, "user_ann", person), /does not know/);
  assert.deepEqual([typing_words([]), typing_words(["Ann"]), typing_words(["Ann", "Bo"]), typing_words(["A", "B", "C"])], ["", "Ann is writing…", "Ann and Bo are writing…", "Several people are writing…"]);
});

test("the connection is told as it is, with what waits and what can be done", () => {
  const now = 1_000_000;
  const words = (state: SocketState, waiting = 0) => connection_words(state, waiting, now);
  assert.equal(words({ name: "online", at: 0, connected: {} as never }), null);
  assert.deepEqual([words({ name: "connecting", attempt: 1 })?.kind, words({ name: "connecting", attempt: 1 }, 1)?.words], ["wait", "One message waits here and will be sent when the connection is back."]);
  const offline = words({ name: "offline", reason: "closed", code: 1006, retry_at: now + 7_200 }, 3);
  assert.deepEqual([offline?.title, offline?.words], ["You are offline", "Trying again in 7 seconds. 3 messages wait here and will be sent when the connection is back."]);
  assert.equal(words({ name: "offline", reason: "drain", code: 4000, retry_at: now })?.title, "The engine is being restarted");
  assert.deepEqual([words({ name: "gone", reason: "x", code: 4503 })?.title, words({ name: "gone", reason: "x", code: 4503 })?.action], ["Chat is open elsewhere", "connect"]);
  assert.deepEqual([words({ name: "gone", reason: "x", code: 4502 })?.action, words({ name: "gone", reason: "logged_out", code: null })?.action], ["log_in", "log_in"]);
  assert.equal(connection_words({ name: "offline", reason: "closed", code: 1006, retry_at: now }, 0, now, true)?.title, "No live connection");
  assert.match(words({ name: "gone", reason: "protocol_error", code: 4504 }, 1)?.words ?? "", /protocol_error.*One message waits here, unsent/);
});
