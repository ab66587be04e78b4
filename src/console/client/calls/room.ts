/** What is known of a room that one is in: who is there, what they publish, and what of it comes in which slot. */

import type { CallGuest, CallJoined, CallParticipant, CallTrack, RoomEvent, RoomStream } from "../wire";

export class RoomState {
  /** This participant's number. */
  me: number | null = null;
  title: string | null = null;
  conversation: string | null = null;
  locked = false;
  lobby = false;
  /** Who waits to be let in; hosts know. */
  waiting: CallGuest[] = [];
  participants = new Map<number, CallParticipant>();
  tracks = new Map<number, CallTrack>();
  /** Which track is in which slot, by the slot's mid. */
  slots = new Map<string, number | null>();
  /** Tracks that are not sent to this device because its network does not carry them. */
  paused = new Set<number>();
  /** Who speaks, the loudest first. */
  speakers: number[] = [];
  /** What the call is shown as, to people who are not in it. */
  streaming: RoomStream | null = null;
  /** Why it is not any more. */
  stream_ended: string | null = null;

  /** My track of a source, if it is published. */
  mine(source: CallTrack["source"]): CallTrack | undefined {
    return [...this.tracks.values()].find((track) => track.participant === this.me && track.source === source);
  }

  /** The room as whoever comes in is told of it. */
  protected take(joined: CallJoined): void {
    this.me = joined.participant;
    this.title = joined.title;
    this.conversation = joined.conversation;
    this.locked = joined.locked;
    this.lobby = joined.lobby;
    this.streaming = joined.streaming;
    this.waiting = joined.waiting;
    this.participants = new Map(joined.participants.map((one) => [one.participant, one]));
    this.tracks = new Map(joined.tracks.map((one) => [one.track, one]));
    this.slots = new Map(joined.slots.map((one) => [one.mid, one.track]));
  }

  /** Something happened there. */
  protected hear(event: RoomEvent): void {
    switch (event.event) {
      case "joined":
        this.participants.set(event.participant.participant, event.participant);
        break;
      case "left":
        this.participants.delete(event.participant);
        for (const [id, track] of this.tracks) if (track.participant === event.participant) this.tracks.delete(id);
        break;
      case "published":
        this.tracks.set(event.track.track, event.track);
        break;
      case "unpublished":
        this.tracks.delete(event.track);
        break;
      case "muted": {
        const track = this.tracks.get(event.track);
        if (track) this.tracks.set(track.track, { ...track, muted: event.muted });
        break;
      }
      case "slots":
        for (const { mid, track } of event.slots) this.slots.set(mid, track);
        break;
      case "speakers":
        this.speakers = event.participants;
        break;
      case "paused":
        if (event.paused) this.paused.add(event.track);
        else this.paused.delete(event.track);
        break;
      case "hand":
        this.#change(event.participant, { hand: event.up });
        break;
      case "role":
        this.#change(event.participant, { role: event.role });
        break;
      case "locked":
        this.locked = event.locked;
        break;
      case "lobby":
        this.lobby = event.on;
        break;
      case "waiting":
        this.waiting = event.waiting;
        break;
      case "streaming":
        this.streaming = event.streaming;
        this.stream_ended = event.reason ?? null;
        break;
    }
  }

  #change(participant: number, what: Partial<CallParticipant>): void {
    const person = this.participants.get(participant);
    if (person) this.participants.set(participant, { ...person, ...what });
  }
}
