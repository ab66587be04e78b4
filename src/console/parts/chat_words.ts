/** Chat in words: who it is with, what happened last, when, and how the connection is. */

import { close_reason, type Entry, type Item, type Notice, type Person, type SocketState, type Summary } from "../client";

/** How somebody is called, also while that is not known yet. */
export function name_of(person: Person): string {
  if (person === "gone") return "Somebody who left";
  return person?.display_name || person?.username || "…";
}

/** What a conversation is called. */
export function title_of(summary: Summary, person: (id: string) => Person): string {
  if (summary.peer !== null) return name_of(person(summary.peer));
  return summary.title ?? (summary.kind === "live" ? "Live chat" : "Group without a title");
}

/** What the newest entry says, in one line, with who said it. */
export function last_words(entry: Entry | null, me: string, person: (id: string) => Person, direct: boolean): string {
  if (!entry) return "Nothing was said yet.";
  const mine = entry.sender === me;
  const who = mine ? "You" : name_of(person(entry.sender));
  const lead = mine ? "You: " : direct ? "" : `${who}: `;
  switch (entry.kind) {
    case "message":
      return lead + message_words(entry.body);
    case "edit":
      return typeof entry.body["text"] === "string" ? `${lead}${one_line(entry.body["text"])} (edited)` : `${who} edited a message`;
    case "delete":
      return `${who} deleted a message`;
    case "reaction":
      return entry.body["on"] === false ? `${who} took back a reaction` : `${who} reacted with ${String(entry.body["emoji"])}`;
    default:
      return notice_words({ what: "notice", seq: entry.seq, sender: entry.sender, at: entry.at, kind: entry.kind, body: entry.body }, me, person);
  }
}

/** A message in one line. */
export function message_words(body: Readonly<Record<string, unknown>>): string {
  if (body["deleted"] !== undefined) return "Message deleted";
  if (typeof body["text"] === "string" && body["text"] !== "") return one_line(body["text"]);
  if (body["location"]) return "A place";
  if (Array.isArray(body["attachments"]) && body["attachments"].length > 0) return attachment_words(body["attachments"]);
  return "A message that is not shown to you";
}

/** What is attached, in words. */
export function attachment_words(attachments: readonly unknown[]): string {
  const voice = attachments.length === 1 && typeof attachments[0] === "object" ? (attachments[0] as { duration_ms?: number }).duration_ms : undefined;
  if (voice !== undefined) return `Voice message, ${clock_words(voice)}`;
  return attachments.length === 1 ? "An attachment" : `${attachments.length} attachments`;
}

/** "1:05". */
export function clock_words(duration_ms: number): string {
  const seconds = Math.round(duration_ms / 1000);
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function one_line(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** What a notice tells, as a sentence without a full stop. */
export function notice_words(notice: Notice, me: string, person: (id: string) => Person): string {
  const { body } = notice;
  const called = (id: unknown) => (id === me ? "you" : name_of(person(String(id))));
  const who = notice.sender === me ? "You" : name_of(person(notice.sender));
  const role = String(body["role"] ?? "member");
  if (notice.kind === "title") {
    if (!("title" in body)) return `${who} changed how long messages are kept`;
    return body["title"] ? `${who} called this conversation “${String(body["title"])}”` : `${who} took the title away`;
  }
  if (notice.kind === "member") {
    const user = typeof body["user"] === "string" ? called(body["user"]) : "somebody";
    switch (body["action"]) {
      case "created":
        return `${who} made this group`;
      case "added":
        return body["user"] === notice.sender ? `${who} joined` : `${who} added ${user}`;
      case "removed":
        return `${who} removed ${user}`;
      case "left":
        return `${who} left`;
      case "role":
        return `${who} made ${user} ${role === "admin" ? "an administrator" : role === "owner" ? "the owner" : "a plain member"}`;
      default:
        return `${who} changed who is here`;
    }
  }
  if (notice.kind === "call") return call_words(body, notice.sender === me, who, called);
  if (notice.kind === "live") return `${who} ${body["action"] === "ended" ? "ended" : "began"} a live stream`;
  return `${who} did something that this console does not know`;
}

/** What became of a call, as whoever called and whoever was called sees it. */
function call_words(body: Readonly<Record<string, unknown>>, mine: boolean, who: string, called: (id: unknown) => string): string {
  if (body["state"] === "ringing") return `${who} called`;
  if (body["state"] === "active") return body["answered_by"] === undefined ? `${who} began a call` : `The call was answered by ${called(body["answered_by"])}`;
  switch (body["outcome"]) {
    case "answered":
      return typeof body["duration_s"] === "number" ? `The call is over, it lasted ${clock_words(body["duration_s"] * 1000)}` : "The call is over";
    case "declined":
      return mine ? "Your call was declined" : `The call from ${who} was declined`;
    case "cancelled":
      return mine ? "You cancelled the call" : `Missed call from ${who}`;
    case "failed":
      return mine ? "Your call was cut off before anybody answered" : `Missed call from ${who}`;
    default:
      return mine ? "Nobody answered your call" : `Missed call from ${who}`;
  }
}

/** "Ann is writing", "Ann and Bo are writing", "Several people are writing". */
export function typing_words(names: readonly string[]): string {
  const [first, second] = names;
  if (first === undefined) return "";
  if (second === undefined) return `${first} is writing…`;
  return names.length === 2 ? `${first} and ${second} are writing…` : "Several people are writing…";
}

/** The time of day: "14:05". */
export function time_words(at: string | number): string {
  const date = new Date(at);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString("en-GB", { hour: "2-digit", minute: "2-digit" });
}

/** "Today", "Yesterday", "Monday 3 November", "3 November 2025": as far back as it takes to be clear. */
export function day_words(at: string | number, now_ms: number): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "An unknown day";
  const days = Math.round((midnight(new Date(now_ms)) - midnight(date)) / 86_400_000);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  if (days > 0 && days < 300) return date.toLocaleDateString("en-GB", { weekday: "long", day: "numeric", month: "long" });
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
}

/** For the inbox: the time today, the day otherwise. */
export function moment_words(at: string, now_ms: number): string {
  const day = day_words(at, now_ms);
  if (day === "Today") return time_words(at);
  if (day === "Yesterday") return day;
  const date = new Date(at);
  const same_year = date.getFullYear() === new Date(now_ms).getFullYear();
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...(same_year ? {} : { year: "numeric" }) });
}

function midnight(date: Date): number {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}

/** What is to be told of the connection; null while there is nothing to tell. */
export interface ConnectionWords {
  kind: "wait" | "warn";
  title: string;
  words: string;
  action: "none" | "connect" | "log_in";
}

/** The truth about the connection: what it is, why, what waits, and what can be done. */
export function connection_words(state: SocketState, waiting: number, now_ms: number, slow = false): ConnectionWords | null {
  const waits =
    waiting === 0
      ? "What you write is kept here and sent when the connection is back."
      : `${waiting === 1 ? "One message waits" : `${waiting} messages wait`} here and will be sent when the connection is back.`;
  if (slow && (state.name === "offline" || state.name === "connecting")) {
    return { kind: "wait", title: "No live connection", words: "Messages are sent and fetched every few seconds instead; reactions wait.", action: "none" };
  }
  switch (state.name) {
    case "online":
      return null;
    case "idle":
      return { kind: "warn", title: "Not connected", words: waits, action: "connect" };
    case "connecting":
      return { kind: "wait", title: "Connecting…", words: waiting > 0 ? waits : "", action: "none" };
    case "offline": {
      const seconds = Math.max(0, Math.round((state.retry_at - now_ms) / 1000));
      const again = seconds > 1 ? `Trying again in ${seconds} seconds.` : "Trying again now.";
      return { kind: "warn", title: offline_title(state.code, state.reason), words: `${again} ${waits}`, action: "none" };
    }
    case "gone":
      return gone_words(state.code, state.reason, waiting);
  }
}

function offline_title(code: number | null, reason: string): string {
  if (code === 4000 || reason === "draining") return "The engine is being restarted";
  if (code === 4001) return "This device fell too far behind and is catching up";
  return "You are offline";
}

function gone_words(code: number | null, reason: string, waiting: number): ConnectionWords {
  const waits = waiting === 0 ? "" : ` ${waiting === 1 ? "One message waits" : `${waiting} messages wait`} here, unsent.`;
  switch (code === null ? reason : close_reason(code)) {
    case "replaced":
      return { kind: "warn", title: "Chat is open elsewhere", words: `Another tab or window on this device has taken over.${waits}`, action: "connect" };
    case "logged_out":
    case "session_revoked":
    case "bad_token":
      return { kind: "warn", title: "You are logged out", words: `Log in again to go on.${waits}`, action: "log_in" };
    case "rate_limit":
      return { kind: "warn", title: "The engine closed the connection", words: `It received too much from this device at once.${waits}`, action: "connect" };
    case "banned":
      return { kind: "warn", title: "This account is suspended", words: `Ask whoever runs this engine.${waits}`, action: "none" };
    default:
      return { kind: "warn", title: "The connection was closed for good", words: `The engine's reason is “${reason}”. Reload the page to get its present version.${waits}`, action: "connect" };
  }
}

/** A piece of a message's text. */
export type Piece = { what: "text" | "mention"; text: string; me?: boolean } | { what: "link"; text: string; href: string };

const LINK = /https?:\/\/[^\s<>"']+/g;
/** Names as the engine allows them; a full stop or a dash at the end is the sentence's. */
const MENTION = /(^|[^\p{L}\p{N}_@])@([\p{L}\p{N}_][\p{L}\p{M}\p{N}_.-]{0,28}[\p{L}\p{M}\p{N}_])/gu;

/** A text with its links and the members it names, in order; nothing of it is ever read as HTML. */
export function pieces_of(text: string, names: ReadonlyMap<string, string>, me: string): Piece[] {
  const pieces: Piece[] = [];
  let done = 0;
  for (const found of text.matchAll(LINK)) {
    // A full stop or bracket after an address is the sentence's.
    const trimmed = found[0].replace(/[.,;:!?)\]}'"]+$/, "");
    let href: string;
    try {
      href = new URL(trimmed).href;
    } catch {
      continue;
    }
    mentions_in(text.slice(done, found.index), names, me, pieces);
    pieces.push({ what: "link", text: trimmed, href });
    done = found.index + trimmed.length;
  }
  mentions_in(text.slice(done), names, me, pieces);
  return pieces;
}

function mentions_in(text: string, names: ReadonlyMap<string, string>, me: string, pieces: Piece[]): void {
  let done = 0;
  for (const found of text.matchAll(MENTION)) {
    const id = names.get((found[2] ?? "").toLowerCase());
    if (id === undefined) continue;
    const start = found.index + (found[1] ?? "").length;
    if (start > done) pieces.push({ what: "text", text: text.slice(done, start) });
    pieces.push({ what: "mention", text: `@${found[2]}`, me: id === me });
    done = start + 1 + (found[2] ?? "").length;
  }
  if (done < text.length) pieces.push({ what: "text", text: text.slice(done) });
}

/** The members whose `@name` stands in a text; `names` leads from names in small letters to ids. */
export function mentioned(text: string, names: ReadonlyMap<string, string>): string[] {
  const found = [...text.matchAll(MENTION)].map((one) => names.get((one[2] ?? "").toLowerCase()));
  return [...new Set(found.filter((id) => id !== undefined))];
}

/** The name that is being typed after an `@` right before the caret, and where the `@` stands. */
export function naming_at(text: string, caret: number): { start: number; part: string } | null {
  const found = /(?:^|[^\p{L}\p{N}_@])@([\p{L}\p{M}\p{N}_.-]{0,30})$/u.exec(text.slice(0, caret));
  return found ? { start: caret - (found[1] ?? "").length - 1, part: found[1] ?? "" } : null;
}

/** Whether an item is the first of its day, after what stands before it. */
export function begins_day(item: Pick<Item, "at">, before: Pick<Item, "at"> | undefined): boolean {
  return before === undefined || midnight(new Date(item.at)) !== midnight(new Date(before.at));
}
