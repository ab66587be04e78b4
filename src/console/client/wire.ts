/** The messages of the subprotocol `nova.v1`, one JSON object each. */

import type { StreamStats } from "./streams";

export const SUBPROTOCOL = "nova.v1";

/** The answer to `connect`. */
export interface Connected {
  type: "connected";
  session: string;
  user: string;
  device: string;
  /** How often this client lets itself be heard. */
  ping_interval_ms: number;
  limits: { message_bytes: number; requests_per_s: number };
  /** How many entries of the offline queue follow as pushes, before `drained`. */
  queue: number;
}

export interface Entry {
  conversation: string;
  epoch: string | number;
  seq: number;
  kind: "message" | "edit" | "delete" | "reaction" | "member" | "call" | "live" | "title" | (string & {});
  sender: string;
  at: string;
  client_msg_id?: string;
  body: Record<string, unknown>;
}

/** Requests and what answers them. `ref` is put in by the socket. */
export interface Requests {
  send: {
    ask: {
      conversation: string;
      client_msg_id: string;
      text?: string;
      kind?: string;
      reply_to?: number;
      mentions?: string[];
      attachments?: unknown[];
      location?: unknown;
    };
    answer: Sent;
  };
  edit: { ask: { conversation: string; target: number; text: string; client_msg_id?: string }; answer: Sent };
  delete: { ask: { conversation: string; target: number; client_msg_id?: string }; answer: Sent };
  react: { ask: { conversation: string; target: number; emoji: string; on: boolean; client_msg_id?: string }; answer: Sent };
  read: { ask: { conversation: string; seq: number }; answer: Record<never, never> };
  pull: {
    ask: { conversation: string; epoch: string | number; after: number; limit: number };
    answer: { conversation: string; epoch: string | number; entries: Entry[]; top: number; recovered: boolean };
  };
  presence: { ask: { watch: string[] }; answer: { users: Presence[] } };
  watch: { ask: { stream: string }; answer: { stream: string; chat: string; viewers: number } };
  unwatch: { ask: { stream: string }; answer: Record<never, never> };
  ping: { ask: Record<never, never>; answer: { at: string } };
  "call.start": { ask: { conversation: string; media: CallNews["media"] }; answer: CallNews };
  "call.accept": { ask: { call: string }; answer: CallNews };
  "call.decline": { ask: { call: string }; answer: Record<never, never> };
  "call.cancel": { ask: { call: string }; answer: Record<never, never> };
  "room.join": { ask: { room: string; offer?: string; name?: string; resume?: number }; answer: CallJoined | CallMoved | CallWaiting };
  "room.admit": { ask: { user: string; admit: boolean }; answer: Record<never, never> };
  "room.lobby": { ask: { on: boolean }; answer: Record<never, never> };
  "room.offer": { ask: { offer: string }; answer: { answer: string } };
  "room.publish": {
    ask: { tracks: { mid: string; source: CallTrack["source"]; muted: boolean }[] };
    answer: { tracks: (CallTrack & { mid: string })[] };
  };
  "room.unpublish": { ask: { track: number }; answer: Record<never, never> };
  "room.mute": { ask: { track: number; muted: boolean }; answer: Record<never, never> };
  "room.view": { ask: { want: Wanted[] }; answer: Record<never, never> };
  "room.hand": { ask: { up: boolean }; answer: Record<never, never> };
  "room.kick": { ask: { participant: number }; answer: Record<never, never> };
  "room.lock": { ask: { locked: boolean }; answer: Record<never, never> };
  "room.role": { ask: { participant: number; role: CallParticipant["role"] }; answer: Record<never, never> };
  "room.stream": { ask: { stream: string }; answer: Record<never, never> };
  "room.unstream": { ask: Record<never, never>; answer: Record<never, never> };
  "room.leave": { ask: { room?: string }; answer: Record<never, never> };
}

/** How a call in a conversation is. */
export interface CallNews {
  call: string;
  conversation: string;
  room: string;
  caller: string;
  media: "audio" | "video";
  state: "ringing" | "active" | "ended";
  /** Who does not want to talk. */
  declined: string[];
  /** While it rings: until when. RFC 3339. */
  ring_until?: string;
  outcome?: "answered" | "missed" | "declined" | "cancelled" | "failed";
  /** Who answered first, and on which device. */
  answered_by?: string;
  answered_on?: string;
}

/** Somebody in a call. */
export interface CallParticipant {
  participant: number;
  user: string;
  name: string | null;
  role: "listener" | "speaker" | "host";
  hand: boolean;
}

/** Something that is published in a call. */
export interface CallTrack {
  track: number;
  participant: number;
  source: "microphone" | "camera" | "screen" | "screen_audio";
  muted: boolean;
}

/** A picture that is shown: how high, in pixels; pictures a second that are enough; and of two the higher priority (0 to 255, 0 without it)
 * is shown first, gets better first and is paused last. */
export interface Wanted {
  track: number;
  height: number;
  fps?: number;
  priority?: number;
}

/** Somebody who waits to be let into a room. */
export interface CallGuest {
  user: string;
  name: string | null;
}

/** The answer to `room.join`: everything a newcomer has to know. */
export interface CallJoined {
  type: "room.joined";
  room: string;
  participant: number;
  /** Absent for who came back without an offer. */
  answer?: string;
  ice_servers: RTCIceServer[];
  title: string | null;
  conversation: string | null;
  call: string | null;
  locked: boolean;
  lobby: boolean;
  /** For hosts. */
  waiting: CallGuest[];
  participants: CallParticipant[];
  tracks: CallTrack[];
  slots: { mid: string; track: number | null }[];
  streaming: RoomStream | null;
  expires_in: number;
}

/** What a room is shown as, to people who are not in it. */
export interface RoomStream {
  stream: string;
  /** The host who began it. */
  by: number;
  recorded: boolean;
}

/** The room is on another node: join there. */
export interface CallMoved {
  type: "room.moved";
  room: string;
  url: string;
}

/** A host has to let this person in; `admitted` follows, or `closed`. */
export interface CallWaiting {
  type: "room.waiting";
  room: string;
}

/** What happens in a call. */
export type RoomEvent = { room: string } & (
  | { event: "joined"; participant: CallParticipant }
  | { event: "left"; participant: number; reason: string }
  | { event: "published"; track: CallTrack }
  | { event: "unpublished"; track: number; participant: number }
  | { event: "muted"; track: number; muted: boolean; by: number }
  | { event: "slots"; slots: { mid: string; track: number | null }[] }
  | { event: "speakers"; participants: number[] }
  | { event: "paused"; track: number; paused: boolean }
  | { event: "layers"; track: number; highest: number | null }
  | { event: "data"; reason: "role_too_low" | "slow" | "too_fast" | "too_large" | "too_many_channels" | "protocol"; ended: boolean }
  | { event: "hand"; participant: number; up: boolean }
  | { event: "role"; participant: number; role: CallParticipant["role"] }
  | { event: "locked"; locked: boolean }
  | { event: "lobby"; on: boolean }
  | { event: "waiting"; waiting: CallGuest[] }
  | { event: "streaming"; streaming: RoomStream | null; reason?: string }
  | { event: "admitted" }
  | { event: "closed"; reason: string }
);

export interface Sent {
  conversation: string;
  client_msg_id: string;
  epoch: string | number;
  seq: number;
  at: string;
  duplicate: boolean;
}

export interface Presence {
  user: string;
  state: string;
  last_seen?: string;
}

/** Said without waiting for an answer. */
export interface Notices {
  ack: { conversation: string; seq: number };
  typing: { conversation: string; on: boolean };
}

/** What comes unasked. */
export interface Pushes {
  entry: Entry;
  drained: { count: number };
  gap: { conversation: string; epoch: string | number; from: number; to: number };
  receipt: { conversation: string; user: string; delivered?: number; read?: number };
  typing: { conversation: string; user: string; on: boolean };
  presence: Presence;
  notification: Record<string, unknown>;
  feed: { newest: string };
  viewers: { stream: string; count: number };
  stream_stats: { stream: string; stats: StreamStats };
  "room.event": RoomEvent;
  call: CallNews;
  goodbye: Goodbye;
}

/** Told before the close frame: whether to come back, and after how long. */
export interface Goodbye {
  code: number;
  reason: string;
  reconnect: boolean;
  after_ms: number;
}

/** The numbers a connection ends with. 4000 to 4499 come back, 4500 to 4999 stay away. */
export const CLOSE = {
  drain: 4000,
  slow_consumer: 4001,
  insufficient_state: 4002,
  ping_timeout: 4003,
  bus_lost: 4004,
  bad_token: 4500,
  token_expired: 4501,
  session_revoked: 4502,
  replaced: 4503,
  protocol_error: 4504,
  rate_limit: 4505,
  banned: 4506,
} as const;

/** The name of a close code for people and logs; `closed` for those that are nobody's. */
export function close_reason(code: number): string {
  return Object.entries(CLOSE).find(([, known]) => known === code)?.[0] ?? "closed";
}
