/**
 * Group calls: rooms over REST, and a {@link Call} in one of them: signalling over the socket, media over one peer connection.
 *
 * ```ts
 * const room = await nova.calls.create({ title: "Monday's round" });
 * const call = nova.calls.call(socket, room.id);
 * call.watch(() => draw(call));
 * await call.join(await navigator.mediaDevices.getUserMedia({ audio: true, video: true }));
 * ```
 *
 * The connection has a fixed number of slots to receive on; which track is in which is told by pushes, so nobody's coming or going
 * negotiates anything.
 */

import type { Http } from "./http";
import type { Socket } from "./socket";
import type { CallParticipant, CallTrack, RoomEvent } from "./wire";

export interface CallRoom {
  id: string;
  /** Who made it: a user's id. */
  host: string;
  title?: string;
  locked: boolean;
  participants: number;
}

/** Voices heard at a time; the engine chooses the loudest. */
const AUDIO_SLOTS = 3;
/** Pictures shown at a time, at most. */
const VIDEO_SLOTS = 9;
/** A camera's layers, the lowest first. */
const LAYERS: RTCRtpEncodingParameters[] = [
  { rid: "q", scaleResolutionDownBy: 4, maxBitrate: 150_000 },
  { rid: "h", scaleResolutionDownBy: 2, maxBitrate: 500_000 },
  { rid: "f", scaleResolutionDownBy: 1, maxBitrate: 1_700_000 },
];
const SCREEN_BPS_MAX = 2_500_000;
/** A path that is gone for so long will not come back by itself. */
const PATIENCE_MS = 2_000;

export class Calls {
  readonly #http: Http;

  constructor(http: Http) {
    this.#http = http;
  }

  async create(room: { title?: string } = {}): Promise<CallRoom> {
    return (await this.#http.post<CallRoom>("/v1/rooms", room)).data;
  }

  async room(id: string): Promise<CallRoom> {
    return (await this.#http.get<CallRoom>(`/v1/rooms/${id}`)).data;
  }

  async end(id: string): Promise<void> {
    await this.#http.delete(`/v1/rooms/${id}`);
  }

  /** A call in a room, not yet joined. */
  call(socket: Socket, room: string): Call {
    return new Call(socket, room);
  }
}

export type CallState =
  | { name: "idle" }
  | { name: "joining" }
  | { name: "in" }
  | { name: "reconnecting" }
  | { name: "ended"; reason: string };

export class Call {
  readonly room: string;
  readonly #socket: Socket;
  readonly #watchers = new Set<() => void>();
  readonly #unwatch: (() => void)[] = [];
  #pc: RTCPeerConnection | null = null;
  #session: string | null = null;
  #senders: Partial<Record<CallTrack["source"], RTCRtpTransceiver>> = {};
  #cancel_patience = () => {};
  #asked = "";
  state: CallState = { name: "idle" };
  /** This participant's number. */
  me: number | null = null;
  title: string | null = null;
  locked = false;
  local: MediaStream | null = null;
  screen: MediaStreamTrack | null = null;
  participants = new Map<number, CallParticipant>();
  tracks = new Map<number, CallTrack>();
  /** Which track is in which slot, by the slot's mid. */
  slots = new Map<string, number | null>();
  /** Who speaks, the loudest first. */
  speakers: number[] = [];

  constructor(socket: Socket, room: string) {
    this.#socket = socket;
    this.room = room;
  }

  /** Told after everything that happens. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  /** Joins with what is in `local`; the call stops its tracks when it ends. */
  async join(local: MediaStream, name?: string): Promise<void> {
    this.local = local;
    this.#unwatch.push(
      this.#socket.on("room.event", (event) => event.room === this.room && this.#heard(event)),
      this.#socket.watch((state) => {
        // Another connection knows nothing of this call: its place is taken over.
        if (state.name === "online" && this.#session && state.connected.session !== this.#session) void this.#again(name);
        if (state.name === "gone") this.#end(state.reason);
      }),
    );
    await this.#connect(name);
  }

  async leave(): Promise<void> {
    if (this.state.name === "ended") return;
    const told = this.state.name === "in" ? this.#socket.ask("room.leave", {}) : null;
    this.#end("left");
    // Whoever cannot be told finds out by the lease.
    await told?.catch(() => {});
  }

  /** My track of a source, if it is published. */
  mine(source: CallTrack["source"]): CallTrack | undefined {
    return [...this.tracks.values()].find((track) => track.participant === this.me && track.source === source);
  }

  /** Withholds my microphone or camera, or shows it again. */
  async mute(source: "microphone" | "camera", muted: boolean): Promise<void> {
    const track = this.mine(source);
    const kind = source === "microphone" ? this.local?.getAudioTracks() : this.local?.getVideoTracks();
    // The device first: nothing leaves it while the engine is being told.
    for (const one of kind ?? []) one.enabled = !muted;
    if (track) await this.#socket.ask("room.mute", { track: track.track, muted });
  }

  /** Shares a screen, or stops. */
  async share(on: boolean): Promise<void> {
    const sender = this.#senders.screen;
    if (!sender) return;
    if (!on) {
      const track = this.mine("screen");
      this.screen?.stop();
      this.screen = null;
      await sender.sender.replaceTrack(null);
      if (track) await this.#socket.ask("room.unpublish", { track: track.track });
      this.#changed();
      return;
    }
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 15 } });
    const [picture] = stream.getVideoTracks();
    if (!picture) return;
    this.screen = picture;
    picture.onended = () => void this.share(false);
    await sender.sender.replaceTrack(picture);
    await this.#publish(["screen"]);
  }

  async raise_hand(up: boolean): Promise<void> {
    await this.#socket.ask("room.hand", { up });
  }

  /** The host silences somebody. */
  async silence(participant: number): Promise<void> {
    const track = [...this.tracks.values()].find((one) => one.participant === participant && one.source === "microphone");
    if (track && !track.muted) await this.#socket.ask("room.mute", { track: track.track, muted: true });
  }

  /** The host takes somebody out. */
  async kick(participant: number): Promise<void> {
    await this.#socket.ask("room.kick", { participant });
  }

  /** The host lets nobody in any more, or everybody again. */
  async lock(locked: boolean): Promise<void> {
    await this.#socket.ask("room.lock", { locked });
  }

  /** Says how high tracks are shown, in pixels, the most important first: what is small comes small. */
  async view(want: { track: number; height: number }[]): Promise<void> {
    const asked = JSON.stringify(want);
    if (asked === this.#asked || this.state.name !== "in") return;
    this.#asked = asked;
    await this.#socket.ask("room.view", { want });
  }

  /** What arrives of a track, while it is in a slot. */
  arriving(track: number): MediaStreamTrack | null {
    for (const [mid, bound] of this.slots) if (bound === track) return this.#receiver(mid);
    return null;
  }

  /** All voices' slots: they are played whoever is in them. */
  voices(): MediaStreamTrack[] {
    const receiving = this.#pc?.getTransceivers().filter((one) => one.direction === "recvonly") ?? [];
    return receiving.map((one) => one.receiver.track).filter((track) => track.kind === "audio");
  }

  /** The connection's own statistics, for people who look closely. */
  async stats(): Promise<RTCStatsReport | null> {
    return (await this.#pc?.getStats()) ?? null;
  }

  #receiver(mid: string): MediaStreamTrack | null {
    return this.#pc?.getTransceivers().find((one) => one.mid === mid)?.receiver.track ?? null;
  }

  async #connect(name?: string): Promise<void> {
    this.#set({ name: this.me === null ? "joining" : "reconnecting" });
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.#pc?.close();
    this.#pc = pc;
    this.#asked = "";
    const [voice] = this.local?.getAudioTracks() ?? [];
    const [face] = this.local?.getVideoTracks() ?? [];
    this.#senders = {
      microphone: pc.addTransceiver(voice ?? "audio", { direction: "sendonly" }),
      camera: pc.addTransceiver(face ?? "video", { direction: "sendonly", sendEncodings: LAYERS.map((layer) => ({ ...layer })) }),
      screen: pc.addTransceiver(this.screen ?? "video", { direction: "sendonly", sendEncodings: [{ maxBitrate: SCREEN_BPS_MAX }] }),
    };
    for (let slot = 0; slot < AUDIO_SLOTS; slot++) pc.addTransceiver("audio", { direction: "recvonly" });
    for (let slot = 0; slot < VIDEO_SLOTS; slot++) pc.addTransceiver("video", { direction: "recvonly" });
    for (const one of pc.getTransceivers()) prefer(one);
    pc.onconnectionstatechange = () => this.#path_changed(pc);
    try {
      await pc.setLocalDescription(await pc.createOffer());
      const joined = await this.#socket.ask("room.join", { room: this.room, offer: pc.localDescription?.sdp ?? "", ...(name && { name }) });
      if (this.#pc !== pc) return;
      this.me = joined.participant;
      this.title = joined.title;
      this.locked = joined.locked;
      this.participants = new Map(joined.participants.map((one) => [one.participant, one]));
      this.tracks = new Map(joined.tracks.map((one) => [one.track, one]));
      this.slots = new Map();
      this.#session = this.#socket.state.name === "online" ? this.#socket.state.connected.session : null;
      await pc.setRemoteDescription({ type: "answer", sdp: joined.answer });
      const sources: CallTrack["source"][] = [];
      if (voice) sources.push("microphone");
      if (face) sources.push("camera");
      if (this.screen) sources.push("screen");
      await this.#publish(sources);
      this.#set({ name: "in" });
    } catch (error) {
      this.#end("failed");
      throw error;
    }
  }

  async #again(name?: string): Promise<void> {
    // What went wrong is shown by the state.
    await this.#connect(name).catch(() => {});
  }

  async #publish(sources: CallTrack["source"][]): Promise<void> {
    const tracks = sources.flatMap((source) => {
      const sender = this.#senders[source];
      if (!sender?.mid) return [];
      const track = sender.sender.track;
      return [{ mid: sender.mid, source, muted: track ? !track.enabled : true }];
    });
    if (tracks.length === 0) return;
    const published = await this.#socket.ask("room.publish", { tracks });
    for (const track of published.tracks) this.tracks.set(track.track, track);
    this.#changed();
  }

  /** The path to the engine is gone or there again. */
  #path_changed(pc: RTCPeerConnection): void {
    if (this.#pc !== pc) return;
    this.#cancel_patience();
    if (pc.connectionState === "connected" && this.state.name === "reconnecting") this.#set({ name: "in" });
    if (pc.connectionState !== "disconnected" && pc.connectionState !== "failed") return;
    const timer = setTimeout(() => void this.#restart(pc), pc.connectionState === "failed" ? 0 : PATIENCE_MS);
    this.#cancel_patience = () => clearTimeout(timer);
  }

  /** Another network: the same call over new paths. */
  async #restart(pc: RTCPeerConnection): Promise<void> {
    if (this.#pc !== pc || this.state.name === "ended") return;
    this.#set({ name: "reconnecting" });
    try {
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const { answer } = await this.#socket.ask("room.offer", { offer: pc.localDescription?.sdp ?? "" });
      if (this.#pc === pc) await pc.setRemoteDescription({ type: "answer", sdp: answer });
    } catch {
      // The socket is away too; it joins anew when it is back.
    }
  }

  #heard(event: RoomEvent): void {
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
        // The host has silenced me: nothing leaves my device either.
        if (track?.participant === this.me && event.muted && track.source === "microphone")
          for (const one of this.local?.getAudioTracks() ?? []) one.enabled = false;
        break;
      }
      case "slots":
        for (const { mid, track } of event.slots) this.slots.set(mid, track);
        break;
      case "speakers":
        this.speakers = event.participants;
        break;
      case "layers":
        void this.#send_layers(event.track, event.highest);
        break;
      case "hand": {
        const person = this.participants.get(event.participant);
        if (person) this.participants.set(person.participant, { ...person, hand: event.up });
        break;
      }
      case "role": {
        const person = this.participants.get(event.participant);
        if (person) this.participants.set(person.participant, { ...person, role: event.role });
        break;
      }
      case "locked":
        this.locked = event.locked;
        break;
      case "closed":
        this.#end(event.reason);
        return;
    }
    this.#changed();
  }

  /** Layers nobody watches are not made. */
  async #send_layers(track: number, highest: number | null): Promise<void> {
    if (this.mine("camera")?.track !== track) return;
    const sender = this.#senders.camera?.sender;
    const parameters = sender?.getParameters();
    if (!sender || !parameters?.encodings.length) return;
    parameters.encodings.forEach((encoding, at) => (encoding.active = highest !== null && at <= highest));
    // A sender that has stopped meanwhile has no layers either.
    await sender.setParameters(parameters).catch(() => {});
  }

  #end(reason: string): void {
    if (this.state.name === "ended") return;
    this.#cancel_patience();
    for (const unwatch of this.#unwatch.splice(0)) unwatch();
    this.#pc?.close();
    this.#pc = null;
    for (const track of this.local?.getTracks() ?? []) track.stop();
    this.screen?.stop();
    this.#set({ name: "ended", reason });
  }

  #set(state: CallState): void {
    this.state = state;
    this.#changed();
  }

  #changed(): void {
    for (const changed of this.#watchers) changed();
  }
}

/** The codecs the engine carries, so that offers stay small: a browser lists twenty for every slot. */
function prefer(transceiver: RTCRtpTransceiver): void {
  const kind = transceiver.receiver.track.kind;
  const codecs = RTCRtpReceiver.getCapabilities(kind)?.codecs ?? [];
  const wanted = codecs.filter(({ mimeType, sdpFmtpLine }) => {
    switch (mimeType.toLowerCase()) {
      case "audio/opus":
      case "video/vp8":
      case "video/rtx":
        return true;
      case "video/h264":
        return /packetization-mode=1/.test(sdpFmtpLine ?? "") && /42e0/i.test(sdpFmtpLine ?? "");
      default:
        return false;
    }
  });
  if (wanted.length > 0) transceiver.setCodecPreferences?.(wanted);
}
