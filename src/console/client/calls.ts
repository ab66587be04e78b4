/**
 * Group calls: rooms over REST, and a {@link Call} in one of them: signalling over the socket, media over one peer connection.
 *
 * ```ts
 * const room = await nova.calls.create({ title: "Monday's round" });
 * const call = nova.calls.call(socket, room.id);
 * call.watch(() => draw(call));
 * await call.join(await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
 * const chat = call.topic("chat");                           // data channels: see client/calls/topics.ts
 * chat.hear(({ participant, text }) => show(participant, text));
 * chat.say("good morning");
 * ```
 *
 * The connection has a fixed number of slots to receive on; which track is in which is told by pushes, so nobody's coming or going
 * negotiates anything.
 */

import { Call } from "./calls/call";
import type { CallOptions } from "./calls/state";
import type { Http } from "./http";
import type { Socket } from "./socket";
import type { Timers } from "./timers";

export * from "./calls/call";
export type { CallOptions, CallState } from "./calls/state";
export type { Quality } from "./calls/quality";
export type { Said, Topic, TopicOptions } from "./calls/topics";

export interface CallRoom {
  id: string;
  /** Who made it: a user's id. */
  host: string;
  title?: string;
  /** Only its members come in. */
  conversation_id?: string;
  locked: boolean;
  /** Newcomers wait until a host lets them in. */
  lobby: boolean;
  max_participants: number;
  participants: number;
}

export interface NewRoom {
  title?: string;
  conversation_id?: string;
  max_participants?: number;
  lobby?: boolean;
}

export class Calls {
  readonly #http: Http;
  readonly #timers: Timers;

  constructor(http: Http, timers: Timers) {
    this.#http = http;
    this.#timers = timers;
  }

  async create(room: NewRoom = {}): Promise<CallRoom> {
    return (await this.#http.post<CallRoom>("/v1/rooms", room)).data;
  }

  async room(id: string): Promise<CallRoom> {
    return (await this.#http.get<CallRoom>(`/v1/rooms/${id}`)).data;
  }

  async end(id: string): Promise<void> {
    await this.#http.delete(`/v1/rooms/${id}`);
  }

  /** A call in a room, not yet joined. */
  call(socket: Socket, room: string, options: CallOptions = {}): Call {
    return new Call(socket, this.#timers, room, options);
  }
}

