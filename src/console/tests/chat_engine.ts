/** The engine's side of chat, as small as the contract allows: logs, members, cursors, sockets. Everything happens at once; delays and faults are the test's. */

import type { Conversation, Member } from "../client/conversations";
import type { Entry } from "../client/wire";
import type { User } from "../client/types";

type Message = { type: string; ref?: number } & Record<string, unknown>;

export interface Talk {
  id: string;
  kind: "direct" | "group";
  title: string | null;
  epoch: number;
  entries: Entry[];
  members: Map<string, Member>;
  created_at: string;
}

interface Line {
  user: string;
  device: string;
  say(message: object): void;
  watched: Set<string>;
}

/** More than this waits for a device in one conversation: it is told of the gap instead. */
export const QUEUE_MAX = 8;

export class ChatEngine {
  readonly talks = new Map<string, Talk>();
  readonly users = new Map<string, User>();
  readonly #cursors = new Map<string, number>();
  readonly #lines = new Set<Line>();
  readonly #muted = new Map<string, string>();
  #last_id = 0;
  now = () => 1_800_000_000_000;

  user(name: string): User {
    const id = `user_${name}`;
    const user = { id, username: name, display_name: name.charAt(0).toUpperCase() + name.slice(1), bio: "", created_at: this.at() };
    this.users.set(id, user);
    return user;
  }

  talk(kind: "direct" | "group", members: string[], title: string | null = null): Talk {
    const pair = kind === "direct" && [...this.talks.values()].find((one) => one.kind === "direct" && members.every((id) => one.members.has(id)));
    if (pair) return pair;
    this.#last_id += 1;
    const talk: Talk = { id: `conv_${this.#last_id}`, kind, title, epoch: 1, entries: [], members: new Map(), created_at: this.at() };
    for (const [nth, user_id] of members.entries()) {
      talk.members.set(user_id, { user: user_id, role: nth === 0 && kind === "group" ? "owner" : "member", joined_at: this.at(), read_seq: 0, delivered_seq: 0 });
    }
    this.talks.set(talk.id, talk);
    return talk;
  }

  at(): string {
    return new Date(this.now()).toISOString();
  }

  /** Puts an entry at the end of a log and pushes it to everybody but the connection it came over. */
  append(talk: Talk, sender: string, kind: string, body: Record<string, unknown>, client_msg_id?: string, from?: object): Entry {
    const entry: Entry = { conversation: talk.id, epoch: talk.epoch, seq: talk.entries.length + 1, kind, sender, at: this.at(), body, ...(client_msg_id === undefined ? {} : { client_msg_id }) };
    talk.entries.push(entry);
    const writer = talk.members.get(sender);
    if (writer) writer.read_seq = entry.seq;
    for (const line of this.#lines) if (line !== from && talk.members.has(line.user)) line.say({ type: "entry", ...this.shown(entry) });
    return entry;
  }

  /** As it is read now: edited texts are new, deleted ones gone. */
  shown(entry: Entry): Entry {
    if (entry.kind !== "message") return entry;
    const changes = (this.talks.get(entry.conversation)?.entries ?? []).filter((one) => one.body["target"] === entry.seq);
    const gone = changes.find((one) => one.kind === "delete");
    if (gone) return { ...entry, body: { deleted: gone.seq } };
    const edit = changes.filter((one) => one.kind === "edit").at(-1);
    return edit ? { ...entry, body: { ...entry.body, text: edit.body["text"], edited: edit.seq } } : entry;
  }

  /** The history was lost: another one begins. */
  lose_history(talk: Talk, keep: number): void {
    talk.epoch += 1;
    talk.entries = talk.entries.slice(0, keep).map((entry) => ({ ...entry, epoch: talk.epoch }));
    for (const member of talk.members.values()) {
      member.read_seq = Math.min(member.read_seq, keep);
      member.delivered_seq = Math.min(member.delivered_seq, keep);
    }
    for (const key of [...this.#cursors.keys()]) if (key.endsWith(talk.id)) this.#cursors.set(key, Math.min(keep, this.#cursors.get(key) ?? 0));
  }

  /** A connection: what it hears goes in at `hear`, what it is told comes out at `say`. */
  connect(user: string, device: string, say: (message: object) => void): { hear(message: Message): void; close(): void } {
    const line: Line = { user, device, say, watched: new Set() };
    return {
      hear: (message) => this.#heard(line, message),
      close: () => {
        this.#lines.delete(line);
        this.#tell_presence(user);
      },
    };
  }

  #heard(line: Line, message: Message): void {
    const { ref } = message;
    const answer = (type: string, body: object = {}) => line.say({ ref, type, ...body });
    const refuse = (code: string) => answer("error", { code, detail: `about ${code}` });
    if (message.type === "connect") {
      answer("connected", { session: "session_1", user: line.user, device: line.device, ping_interval_ms: 25_000, limits: { message_bytes: 65_536, requests_per_s: 1_000 }, queue: 0 });
      let count = 0;
      for (const talk of this.talks.values()) {
        if (!talk.members.has(line.user)) continue;
        const after = this.#cursors.get(line.device + talk.id) ?? 0;
        const missing = talk.entries.slice(after);
        count += missing.length;
        if (missing.length > QUEUE_MAX) line.say({ type: "gap", conversation: talk.id, epoch: talk.epoch, from: after + 1, to: talk.entries.length });
        else for (const entry of missing) line.say({ type: "entry", ...this.shown(entry) });
      }
      line.say({ type: "drained", count });
      this.#lines.add(line);
      return this.#tell_presence(line.user);
    }
    if (message.type === "ping") return answer("pong", { at: this.at() });
    if (message.type === "refresh") return answer("ok");
    if (message.type === "presence") {
      line.watched = new Set(message["watch"] as string[]);
      return answer("presence", { users: [...line.watched].map((user) => this.#presence(user)) });
    }
    const talk = this.talks.get(String(message["conversation"]));
    const member = talk?.members.get(line.user);
    if (!talk || !member) return refuse("not_a_member");
    const seq = Number(message["seq"]);
    switch (message.type) {
      case "send":
      case "edit":
      case "delete":
      case "react": {
        const id = String(message["client_msg_id"]);
        const known = talk.entries.find((entry) => entry.sender === line.user && entry.client_msg_id === id);
        if (known) return answer("sent", { conversation: talk.id, client_msg_id: id, epoch: talk.epoch, seq: known.seq, at: known.at, duplicate: true });
        const { type: _type, ref: _ref, conversation: _conversation, client_msg_id: _id, ...body } = message;
        const target = talk.entries[Number(body["target"]) - 1];
        if (message.type !== "send" && target?.kind !== "message") return refuse("no_such_message");
        if ((message.type === "edit" || message.type === "delete") && target && target.sender !== line.user) return refuse("not_yours");
        const kind = { send: "message", edit: "edit", delete: "delete", react: "reaction" }[message.type];
        const entry = this.append(talk, line.user, kind, body, id, line);
        return answer("sent", { conversation: talk.id, client_msg_id: id, epoch: talk.epoch, seq: entry.seq, at: entry.at, duplicate: false });
      }
      case "ack": {
        this.#cursors.set(line.device + talk.id, Math.max(seq, this.#cursors.get(line.device + talk.id) ?? 0));
        return this.#receipt(talk, line.user, seq, 0);
      }
      case "read":
        this.#receipt(talk, line.user, seq, seq);
        return answer("ok");
      case "typing":
        for (const other of this.#lines) if (other.user !== line.user && talk.members.has(other.user)) other.say({ type: "typing", conversation: talk.id, user: line.user, on: message["on"] });
        return;
      case "pull": {
        const top = talk.entries.length;
        if (message["epoch"] !== talk.epoch) return answer("entries", { conversation: talk.id, epoch: talk.epoch, entries: [], top, recovered: false });
        const after = Number(message["after"]);
        const entries = talk.entries.slice(after, after + Math.min(Number(message["limit"]), 5)).map((entry) => this.shown(entry));
        return answer("entries", { conversation: talk.id, epoch: talk.epoch, entries, top, recovered: true });
      }
      default:
        return refuse("unknown_type");
    }
  }

  #receipt(talk: Talk, user: string, delivered: number, read: number): void {
    const member = talk.members.get(user);
    if (!member || (member.delivered_seq >= delivered && member.read_seq >= read)) return;
    member.delivered_seq = Math.max(member.delivered_seq, delivered);
    member.read_seq = Math.max(member.read_seq, read);
    for (const line of this.#lines) {
      if (talk.members.has(line.user)) line.say({ type: "receipt", conversation: talk.id, user, delivered: member.delivered_seq, ...(read > 0 ? { read: member.read_seq } : {}) });
    }
  }

  #presence(user: string): object {
    const online = [...this.#lines].some((line) => line.user === user);
    return { user, state: online ? "online" : "offline", ...(online ? {} : { last_seen: this.at() }) };
  }

  #tell_presence(user: string): void {
    for (const line of this.#lines) if (line.watched.has(user)) line.say({ type: "presence", ...this.#presence(user) });
  }

  conversation(talk: Talk, user: string): Conversation {
    const member = talk.members.get(user);
    const last = talk.entries.at(-1);
    const muted_until = this.#muted.get(user + talk.id);
    const peer = talk.kind === "direct" ? [...talk.members.keys()].find((id) => id !== user) : undefined;
    return {
      id: talk.id,
      kind: talk.kind,
      ...(talk.title === null ? {} : { title: talk.title }),
      epoch: talk.epoch,
      last_seq: talk.entries.length,
      ...(last ? { last_entry: this.shown(last) } : {}),
      last_at: last?.at ?? talk.created_at,
      joined_seq: 0,
      read_seq: member?.read_seq ?? 0,
      unread: talk.entries.length - (member?.read_seq ?? 0),
      role: member?.role ?? "member",
      ...(muted_until === undefined ? {} : { muted_until }),
      ...(peer === undefined ? {} : { peer }),
      created_at: talk.created_at,
    };
  }

  /** REST: a status and a body. */
  request(user: string, method: string, address: string, body: Record<string, unknown> | undefined): { status: number; body?: unknown } {
    const url = new URL(address, "http://engine");
    const [, , noun, id, part, member] = url.pathname.split("/").map(decodeURIComponent);
    const no = (status: number, code: string) => ({ status, body: { type: `/docs/errors#${code}`, title: code, status, detail: `about ${code}`, code, request_id: "req_1" } });
    if (noun === "users" && id !== undefined) {
      const found = id.startsWith("@") ? [...this.users.values()].find((one) => one.username === id.slice(1)) : this.users.get(id);
      if (part === "block") return { status: 204 };
      return found ? { status: 200, body: found } : no(404, "not_found");
    }
    if (noun !== "conversations") return no(404, "not_found");
    if (id === undefined) {
      if (method === "GET") return { status: 200, body: { items: [...this.talks.values()].filter((talk) => talk.members.has(user)).map((talk) => this.conversation(talk, user)) } };
      const talk = this.talk(body?.["kind"] as "direct", [user, ...(body?.["members"] as string[])], (body?.["title"] as string | undefined) ?? null);
      return { status: 201, body: this.conversation(talk, user) };
    }
    const talk = this.talks.get(id);
    if (part === "messages" && talk) {
      const type = { POST: "send", PATCH: "edit", DELETE: "delete" }[method];
      let said: Record<string, unknown> = {};
      const line: Line = { user, device: "rest", say: (message) => (said = message as Record<string, unknown>), watched: new Set() };
      const id = body?.["client_msg_id"] ?? `delete-${member}`;
      this.#heard(line, { ...body, type: String(type), ref: 0, conversation: talk.id, client_msg_id: id, ...(member === undefined ? {} : { target: Number(member) }) });
      return said["type"] === "sent" ? { status: 200, body: said } : no(403, String(said["code"]));
    }
    if (part === "read" && talk) {
      this.#receipt(talk, user, Number(body?.["seq"]), Number(body?.["seq"]));
      return { status: 200, body: { seq: body?.["seq"] } };
    }
    if (!talk?.members.has(user)) return no(403, "not_a_member");
    if (part === "entries") {
      const limit = Number(url.searchParams.get("limit"));
      const before = url.searchParams.get("before");
      const end = before === null ? talk.entries.length : Number(before) - 1;
      const entries = before === null ? talk.entries.slice(Number(url.searchParams.get("after")), Number(url.searchParams.get("after")) + limit) : talk.entries.slice(Math.max(0, end - limit), end).reverse();
      return { status: 200, body: { items: entries.map((entry) => this.shown(entry)) } };
    }
    if (part === "members") {
      if (member === undefined) return { status: 200, body: { items: [...talk.members.values()] } };
      if (method === "DELETE") {
        this.append(talk, user, "member", { user: member, action: member === user ? "left" : "removed" });
        talk.members.delete(member);
      } else {
        const before = talk.members.get(member);
        const role = (body?.["role"] as Member["role"] | undefined) ?? before?.role ?? "member";
        talk.members.set(member, { user: member, role, joined_at: this.at(), read_seq: before?.read_seq ?? talk.entries.length, delivered_seq: before?.delivered_seq ?? talk.entries.length });
        this.append(talk, user, "member", { user: member, action: before ? "role" : "added", role });
      }
      return { status: 204 };
    }
    if (part === "mute") {
      if (method === "PUT") this.#muted.set(user + talk.id, String(body?.["until"] ?? "9999-01-01T00:00:00.000Z"));
      else this.#muted.delete(user + talk.id);
      return { status: 204 };
    }
    if (method === "PATCH") {
      if (body && "title" in body) {
        talk.title = body["title"] as string | null;
        this.append(talk, user, "title", { title: talk.title });
      }
    }
    return { status: 200, body: this.conversation(talk, user) };
  }
}
