/** What one asks of a room besides media: a hand, and what hosts decide. It is said until it is heard, over however many connections. */

import type { Socket } from "../socket";
import type { Timers } from "../timers";
import type { CallParticipant } from "../wire";
import { RoomState } from "./room";
import { Wishes } from "./wishes";

/** Each resolves when it is heard or has lost its sense, and rejects with the `Refused` that does not pass. */
export abstract class RoomRequests extends RoomState {
  protected readonly socket: Socket;
  protected readonly wishes: Wishes;

  constructor(socket: Socket, timers: Timers) {
    super();
    this.socket = socket;
    this.wishes = new Wishes(timers, () => this.present());
  }

  /** Resolves when one is in the room over the connection there is, or the call is over. */
  protected abstract present(): Promise<void>;

  /** One wants to speak, or no longer. */
  async raise_hand(up: boolean): Promise<void> {
    await this.wishes.say("hand", () => this.socket.ask("room.hand", { up }));
  }

  /** The host lets somebody in who waits, or sends them away. */
  async admit(user: string, yes: boolean): Promise<void> {
    await this.wishes.say(`admit ${user}`, () => {
      const waits = this.waiting.some((guest) => guest.user === user);
      return waits ? this.socket.ask("room.admit", { user, admit: yes }) : null;
    });
  }

  /** The host has newcomers wait, or come in by themselves. */
  async set_lobby(on: boolean): Promise<void> {
    await this.wishes.say("lobby", () => this.socket.ask("room.lobby", { on }));
  }

  /** The host says what somebody may do. */
  async set_role(participant: number, role: CallParticipant["role"]): Promise<void> {
    const here = this.#person(participant);
    await this.wishes.say(`role ${participant}`, () => (here() ? this.socket.ask("room.role", { participant, role }) : null));
  }

  /** The host silences somebody. */
  async silence(participant: number): Promise<void> {
    const here = this.#person(participant);
    await this.wishes.say(`silence ${participant}`, () => {
      const track = [...this.tracks.values()].find((one) => one.participant === participant && one.source === "microphone");
      return here() && track && !track.muted ? this.socket.ask("room.mute", { track: track.track, muted: true }) : null;
    });
  }

  /** The host takes somebody out. */
  async kick(participant: number): Promise<void> {
    const here = this.#person(participant);
    await this.wishes.say(`kick ${participant}`, () => (here() ? this.socket.ask("room.kick", { participant }) : null));
  }

  /** The host lets nobody in any more, or everybody again. */
  async lock(locked: boolean): Promise<void> {
    await this.wishes.say("lock", () => this.socket.ask("room.lock", { locked }));
  }

  /** The host makes the call a live stream of theirs. Asked once: a processor that is missing for it is missing for longer than a moment. */
  async stream(stream: string): Promise<void> {
    await this.socket.ask("room.stream", { stream });
  }

  /** The host ends that. */
  async unstream(): Promise<void> {
    await this.wishes.say("unstream", () => (this.streaming ? this.socket.ask("room.unstream", {}) : null));
  }

  /** Whether somebody who is here now still is: a room that has moved counts its people anew. */
  #person(participant: number): () => boolean {
    const user = this.participants.get(participant)?.user;
    return () => this.participants.get(participant)?.user === user;
  }
}
