/** Conversations over REST: making them, reading them, and who is in them. */

import type { Answer, Http, RequestOptions } from "./http";
import { walk, type Page } from "./paging";
import type { Entry, Sent } from "./wire";

export type Role = "owner" | "admin" | "member";

/** A conversation as one of its members sees it. */
export interface Conversation {
  id: string;
  kind: "direct" | "group" | "live" | (string & {});
  /** What a group is called. */
  title?: string;
  /** The other person of a direct conversation. */
  peer?: string;
  epoch: Entry["epoch"];
  /** The newest sequence. */
  last_seq: number;
  /** The newest entry, unless it is no longer kept. */
  last_entry?: Entry;
  /** When it was written. */
  last_at: string;
  /** How far the caller has read, and where they came in; what lies past both is unread. */
  read_seq: number;
  joined_seq: number;
  unread: number;
  role: Role;
  /** Until when the caller wants to hear nothing from it. */
  muted_until?: string;
  /** How long entries are kept, in seconds; for ever when absent. */
  retention_s?: number;
  created_at: string;
}

export interface Member {
  user: string;
  role: Role;
  joined_at: string;
  read_seq: number;
  delivered_seq: number;
}

export interface NewConversation {
  kind: "direct" | "group";
  /** Whom to talk to; the caller is in it in any case. */
  members: string[];
  title?: string;
}

export interface ConversationChange {
  /** Null takes it away. */
  title?: string | null;
  retention_s?: number | null;
}

const PAGE = 100;

export class Conversations {
  constructor(private readonly http: Http) {}

  /** Makes one. The same two people always get the same direct conversation. */
  async create(wanted: NewConversation, options?: RequestOptions): Promise<Conversation> {
    return (await this.http.post<Conversation>("/v1/conversations", wanted, options)).data;
  }

  /** The inbox, the liveliest first. */
  list(): AsyncGenerator<Conversation, void> {
    return walk(async (cursor) => (await this.http.get<Page<Conversation>>("/v1/conversations", { query: { cursor, limit: PAGE } })).data);
  }

  get(id: string, options?: RequestOptions): Promise<Answer<Conversation>> {
    return this.http.get(path(id), options);
  }

  async change(id: string, change: ConversationChange, options?: RequestOptions): Promise<Conversation> {
    return (await this.http.patch<Conversation>(path(id), change, options)).data;
  }

  /** Up to `limit` entries (at most 100) before or after a sequence, oldest first; fewer are the last there are that way. */
  async entries(id: string, where: { before: number } | { after: number }, limit: number): Promise<Entry[]> {
    const { items } = (await this.http.get<{ items: Entry[] }>(`${path(id)}/entries`, { query: { ...where, limit } })).data;
    return items.sort((a, b) => a.seq - b.seq);
  }

  /** Sends a message; the same `client_msg_id` with the same content is the same message. */
  async send(id: string, message: { client_msg_id: string } & Record<string, unknown>, options?: RequestOptions): Promise<Sent> {
    return (await this.http.post<Sent>(`${path(id)}/messages`, message, options)).data;
  }

  async edit_message(id: string, seq: number, change: { client_msg_id: string; text: string }, options?: RequestOptions): Promise<Sent> {
    return (await this.http.patch<Sent>(`${path(id)}/messages/${seq}`, change, options)).data;
  }

  async delete_message(id: string, seq: number, options?: RequestOptions): Promise<Sent> {
    return (await this.http.delete<Sent>(`${path(id)}/messages/${seq}`, options)).data;
  }

  /** The caller has read up to here; it never goes back. */
  async read(id: string, seq: number): Promise<void> {
    await this.http.put(`${path(id)}/read`, { seq });
  }

  /** Keeps it silent until then, or for good. */
  async mute(id: string, until?: string): Promise<void> {
    await this.http.put(`${path(id)}/mute`, until === undefined ? {} : { until });
  }

  async unmute(id: string): Promise<void> {
    await this.http.delete(`${path(id)}/mute`);
  }

  members(id: string): AsyncGenerator<Member, void> {
    return walk(async (cursor) => (await this.http.get<Page<Member>>(`${path(id)}/members`, { query: { cursor, limit: PAGE } })).data);
  }

  /** Adds somebody, or gives them another role. */
  async put_member(id: string, user: string, role?: Role): Promise<void> {
    await this.http.put(`${path(id)}/members/${encodeURIComponent(user)}`, role === undefined ? {} : { role });
  }

  /** Removes somebody; oneself to leave. */
  async remove_member(id: string, user: string): Promise<void> {
    await this.http.delete(`${path(id)}/members/${encodeURIComponent(user)}`);
  }
}

function path(id: string): string {
  return `/v1/conversations/${encodeURIComponent(id)}`;
}
