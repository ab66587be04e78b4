/** A call in a room: signalling over the socket, media over one peer connection. */

import { Refused } from "../problem";
import type { Socket } from "../socket";
import { pause, type Timers } from "../timers";
import type { CallJoined, CallMoved, CallTrack, CallWaiting, RoomEvent, Wanted } from "../wire";
import { LAYERS, prefer, SCREEN_BPS_MAX } from "./codecs";
import { Layers } from "./layers";
import { arrived, Networks } from "./networks";
import { Gauge, type Quality } from "./quality";
import { RoomRequests } from "./requests";
import type { CallOptions, CallState } from "./state";
import { type Topic, type TopicOptions, Topics } from "./topics";
import { AGAIN_MS, insist, passes, TRIES_MAX } from "./wishes";

/** Voices heard at a time; the engine chooses the loudest. */
const AUDIO_SLOTS = 3;
/** Pictures shown at a time, at most. */
const VIDEO_SLOTS = 9;
/** A path that is gone for so long will not come back by itself. */
const PATIENCE_MS = 2_000;
/** How often it is looked whether media comes over another network, and how long after it did no further time. */
const LOOK_MS = 400;
const SETTLE_MS = 5_000;

export class Call extends RoomRequests {
  readonly room: string;
  readonly #timers: Timers;
  readonly #options: CallOptions;
  readonly #watchers = new Set<() => void>();
  readonly #unwatch: (() => void)[] = [];
  #pc: RTCPeerConnection | null = null;
  #session: string | null = null;
  /** The connection over which I am in the room: over another one the engine knows nothing of me until I have come back. */
  #present_over: string | null = null;
  #senders: Partial<Record<CallTrack["source"], RTCRtpTransceiver>> = {};
  #layers: Layers | null = null;
  /** The highest layer somebody watches of each of my tracks; said as soon as it is published, so perhaps before I know of it. */
  readonly #watched = new Map<number, number | null>();
  #cancel_patience = () => {};
  /** The network has changed: the next connection to the engine begins with other paths. */
  #moves = false;
  #asked = "";
  #name: string | undefined;
  readonly #gauge = new Gauge();
  readonly #topics = new Topics();
  state: CallState = { name: "idle" };
  local: MediaStream | null = null;
  screen: MediaStreamTrack | null = null;
  /** Why what was said on topics does not get through, if it does not. */
  trouble: Extract<RoomEvent, { event: "data" }>["reason"] | null = null;

  constructor(socket: Socket, timers: Timers, room: string, options: CallOptions) {
    super(socket, timers);
    this.#timers = timers;
    this.room = room;
    this.#options = options;
  }

  /** Told after everything that happens. */
  watch(changed: () => void): () => void {
    this.#watchers.add(changed);
    return () => this.#watchers.delete(changed);
  }

  /** Joins with what is in `local`; the call stops its tracks when it ends. */
  async join(local: MediaStream, name?: string): Promise<void> {
    this.local = local;
    this.#name = name;
    this.#unwatch.push(
      this.socket.on("room.event", (event) => event.room === this.room && this.#heard(event)),
      this.socket.watch((state) => {
        // Another connection knows nothing of this call: its place is taken up again.
        if (state.name === "online" && this.#session && state.connected.session !== this.#session) void this.#back();
        if (state.name === "gone") this.#end(state.reason);
      }),
    );
    await this.#connect();
  }

  async leave(): Promise<void> {
    if (this.state.name === "ended") return;
    // Also while joining: whoever is let in after this is not there.
    const told = this.state.name === "idle" ? null : this.socket.ask("room.leave", { room: this.room });
    this.#end("left");
    // Whoever cannot be told finds out by the lease.
    await told?.catch(() => {});
  }

  /** Withholds my microphone or camera, or shows it again. */
  async mute(source: "microphone" | "camera", muted: boolean): Promise<void> {
    const kind = source === "microphone" ? this.local?.getAudioTracks() : this.local?.getVideoTracks();
    // The device first: nothing leaves it while the engine is being told.
    for (const one of kind ?? []) one.enabled = !muted;
    if (!this.mine(source)) return;
    await this.wishes.say(`mute ${source}`, () => {
      const track = this.mine(source);
      return track ? this.socket.ask("room.mute", { track: track.track, muted }) : null;
    });
  }

  /** Shares a screen, or stops. */
  async share(on: boolean): Promise<void> {
    const sender = this.#senders.screen;
    if (!sender) return;
    if (!on) {
      this.screen?.stop();
      this.screen = null;
      await sender.sender.replaceTrack(null);
      await this.wishes.say("screen", () => {
        const track = this.screen ? undefined : this.mine("screen");
        return track ? this.socket.ask("room.unpublish", { track: track.track }) : null;
      });
      this.#changed();
      return;
    }
    const stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: 15 } });
    const [picture] = stream.getVideoTracks();
    if (!picture) return;
    this.screen = picture;
    picture.onended = () => void this.share(false);
    await sender.sender.replaceTrack(picture);
    await this.#publish_all();
  }

  /** Speaks through another microphone, or shows another camera; a camera that was not there before is switched on. */
  async use_device(kind: "microphone" | "camera", device_id?: string): Promise<void> {
    const device = device_id === undefined ? true : { deviceId: { exact: device_id } };
    const stream = await navigator.mediaDevices.getUserMedia(kind === "microphone" ? { audio: device } : { video: device });
    const [fresh] = stream.getTracks();
    const sender = this.#senders[kind]?.sender;
    if (!fresh || !sender || !this.local) return;
    for (const old of kind === "microphone" ? this.local.getAudioTracks() : this.local.getVideoTracks()) {
      fresh.enabled = old.enabled;
      this.local.removeTrack(old);
      old.stop();
    }
    this.local.addTrack(fresh);
    await sender.replaceTrack(fresh);
    if (!this.mine(kind)) await this.#publish_all();
    this.#changed();
  }

  /** How the connection has been since this was last asked; null while nothing is known. */
  async quality(): Promise<Quality | null> {
    const stats = await this.#pc?.getStats();
    return stats && this.state.name === "in" ? this.#gauge.read(stats) : null;
  }

  /** What people here talk about besides speaking: one's part in the topic of this name. */
  topic(name: string, options: TopicOptions = {}): Topic {
    return this.#topics.open(name, options);
  }

  /** Says how tracks are shown, of one priority the most important first: what is small comes small. */
  async view(want: Wanted[]): Promise<void> {
    const asked = JSON.stringify(want);
    if (asked === this.#asked || this.state.name !== "in") return;
    this.#asked = asked;
    try {
      await this.socket.ask("room.view", { want });
    } catch (error) {
      // It was not heard: whoever shows the call is told that something has changed, and says it again.
      if (this.#asked === asked) this.#asked = "";
      if (passes(error)) this.#timers.after(error.retry_after_ms ?? AGAIN_MS, () => this.#changed());
      throw error;
    }
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

  async #connect(): Promise<void> {
    this.#set({ name: this.me === null ? "joining" : "reconnecting" });
    const pc = new RTCPeerConnection({
      bundlePolicy: "max-bundle",
      ...(this.#options.relay_only && { iceTransportPolicy: "relay" as const }),
    });
    this.#pc?.close();
    this.#pc = pc;
    this.#present_over = null;
    this.#asked = "";
    this.#watched.clear();
    this.paused.clear();
    this.trouble = null;
    const [voice] = this.local?.getAudioTracks() ?? [];
    const [face] = this.local?.getVideoTracks() ?? [];
    this.#senders = {
      microphone: pc.addTransceiver(voice ?? "audio", { direction: "sendonly" }),
      camera: pc.addTransceiver(face ?? "video", { direction: "sendonly", sendEncodings: LAYERS.map((layer) => ({ ...layer })) }),
      screen: pc.addTransceiver(this.screen ?? "video", { direction: "sendonly", sendEncodings: [{ maxBitrate: SCREEN_BPS_MAX }] }),
    };
    this.#layers = this.#senders.camera ? new Layers(this.#senders.camera.sender, this.#timers) : null;
    for (let slot = 0; slot < AUDIO_SLOTS; slot++) pc.addTransceiver("audio", { direction: "recvonly" });
    for (let slot = 0; slot < VIDEO_SLOTS; slot++) pc.addTransceiver("video", { direction: "recvonly" });
    for (const one of pc.getTransceivers()) prefer(one);
    this.#topics.attach(pc);
    pc.onconnectionstatechange = () => this.#path_changed(pc);
    try {
      const offer = await pc.createOffer();
      const joined = await this.#ask_in({ offer: offer.sdp ?? "", ...(this.#name && { name: this.#name }) }, () => this.#pc === pc);
      if (this.#pc !== pc) return;
      if (joined?.type !== "room.joined" || joined.answer === undefined) {
        this.#session = this.#online_session();
        this.#set({ name: "waiting" });
        return;
      }
      this.#take(joined);
      // Paths are looked for from here on, those through the relays of the answer too.
      if (joined.ice_servers.length > 0) pc.setConfiguration({ ...pc.getConfiguration(), iceServers: joined.ice_servers });
      await pc.setLocalDescription(offer);
      await pc.setRemoteDescription({ type: "answer", sdp: joined.answer });
      this.#watch_networks(pc);
      await this.#publish_all();
      if (this.#pc !== pc) return;
      this.#set({ name: "in" });
    } catch (error) {
      if (this.#pc !== pc) return;
      this.#end(error instanceof Refused ? error.code : "failed");
      throw error;
    }
  }

  /** Asks to come in, wherever the room is; null when nobody waits for the answer any more. */
  #ask_in(fields: { offer?: string; name?: string; resume?: number }, wanted: () => boolean): Promise<CallJoined | CallWaiting | null> {
    return insist(this.#timers, () => this.#online(), wanted, async () => {
      const answer: CallJoined | CallMoved | CallWaiting = await this.socket.ask("room.join", { room: this.room, ...fields });
      if (answer.type !== "room.moved") return answer;
      if (wanted()) this.socket.move(answer.url);
      throw new Refused("unavailable", "The room could not be reached where it is.", 0);
    });
  }

  /** Resolves when the engine can be asked. */
  #online(): Promise<void> {
    const { name } = this.socket.state;
    if (name === "online" || name === "gone" || name === "idle") return Promise.resolve();
    return new Promise((resolve) => {
      const unwatch = this.socket.watch((state) => {
        if (state.name === "connecting" || state.name === "offline") return;
        unwatch();
        resolve();
      });
    });
  }

  /** Resolves when I am in the room over the connection there is, or the call is over. */
  protected present(): Promise<void> {
    const is_there = () => this.state.name === "ended" || (this.#present_over !== null && this.#present_over === this.#online_session());
    if (is_there()) return Promise.resolve();
    return new Promise((resolve) => {
      const unwatch = this.watch(() => {
        if (!is_there()) return;
        unwatch();
        resolve();
      });
    });
  }

  #online_session(): string | null {
    return this.socket.state.name === "online" ? this.socket.state.connected.session : null;
  }

  #take(joined: CallJoined): void {
    this.take(joined);
    this.#session = this.#online_session();
    this.#present_over = this.#session;
  }

  /** Another connection to the engine: to the same place while that is kept for us, with everything that flows; otherwise anew. */
  async #back(): Promise<void> {
    const pc = this.#pc;
    this.#session = this.#online_session();
    if (this.state.name === "waiting" || this.me === null || !pc) return this.#again();
    try {
      const moves = this.#moves || pc.connectionState !== "connected";
      this.#moves = false;
      if (moves) this.#set({ name: "reconnecting" });
      if (moves) await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const offer = moves ? { offer: pc.localDescription?.sdp ?? "" } : {};
      const joined = await this.#ask_in({ resume: this.me, ...offer }, () => this.#pc === pc);
      if (joined?.type !== "room.joined" || this.#pc !== pc) return;
      this.#take(joined);
      if (joined.answer !== undefined) await pc.setRemoteDescription({ type: "answer", sdp: joined.answer });
      await this.#publish_all();
      if (this.#pc !== pc) return;
      this.#agree();
      this.#set({ name: "in" });
    } catch {
      if (this.#pc === pc) await this.#again();
    }
  }

  /** What was said of my devices while nobody heard it, in either direction. */
  #agree(): void {
    for (const source of ["microphone", "camera"] as const) {
      const track = this.mine(source);
      const device = this.#senders[source]?.sender.track;
      if (!track || !device || track.muted === !device.enabled || this.wishes.has(`mute ${source}`)) continue;
      // The host may have silenced me; nobody but me has made me heard or seen.
      if (track.muted) device.enabled = false;
      else void this.mute(source, true).catch(() => {});
    }
  }

  async #again(): Promise<void> {
    // What went wrong is shown by the state.
    await this.#connect().catch(() => {});
  }

  /** Publishes what I have and is not published, if I may. */
  async #publish_all(): Promise<void> {
    if (this.me !== null && this.participants.get(this.me)?.role === "listener") return;
    for (let tried = 0; ; tried++) {
      await this.present();
      if (this.state.name === "ended") return;
      const has = { microphone: this.local?.getAudioTracks().length, camera: this.local?.getVideoTracks().length, screen: this.screen ? 1 : 0 };
      const sources = (["microphone", "camera", "screen"] as const).filter((source) => has[source] && !this.mine(source));
      try {
        return await this.#publish(sources);
      } catch (error) {
        if (!passes(error) || tried >= TRIES_MAX) throw error;
        // Whoever comes back over another connection publishes what is missing.
        if (error.code === "disconnected" || error.code === "no_answer") return;
        await pause(this.#timers, error.retry_after_ms ?? AGAIN_MS);
      }
    }
  }

  async #publish(sources: CallTrack["source"][]): Promise<void> {
    const tracks = sources.flatMap((source) => {
      const sender = this.#senders[source];
      if (!sender?.mid) return [];
      const track = sender.sender.track;
      return [{ mid: sender.mid, source, muted: track ? !track.enabled : true }];
    });
    if (tracks.length === 0) return;
    const published = await this.socket.ask("room.publish", { tracks });
    for (const track of published.tracks) this.tracks.set(track.track, track);
    this.#make_layers();
    this.#changed();
  }

  /** Layers nobody watches are not made. */
  #make_layers(): void {
    const camera = this.mine("camera");
    const highest = camera && this.#watched.get(camera.track);
    if (highest !== undefined) void this.#layers?.send(highest);
  }

  /** Looks whether media comes over another network than ours goes over, while this connection is the call's. */
  #watch_networks(pc: RTCPeerConnection): void {
    const networks = new Networks();
    const look = async () => {
      if (this.#pc !== pc || this.state.name === "ended") return;
      // A connection that is closed meanwhile has none.
      const stats = pc.connectionState === "connected" ? await pc.getStats().catch(() => null) : null;
      const has_left = networks.has_left(stats && arrived(stats));
      if (has_left && this.#pc === pc) {
        // The socket is still on the network that is gone, and nobody tells it.
        this.#moves = true;
        this.socket.redial();
      }
      this.#timers.after(has_left ? SETTLE_MS : LOOK_MS, () => void look());
    };
    this.#timers.after(LOOK_MS, () => void look());
  }

  /** The path to the engine is gone or there again. */
  #path_changed(pc: RTCPeerConnection): void {
    if (this.#pc !== pc) return;
    this.#cancel_patience();
    if (pc.connectionState === "connected" && this.state.name === "reconnecting") this.#set({ name: "in" });
    if (pc.connectionState !== "disconnected" && pc.connectionState !== "failed") return;
    this.#cancel_patience = this.#timers.after(pc.connectionState === "failed" ? 0 : PATIENCE_MS, () => void this.#restart(pc));
  }

  /** Another network: the same call over new paths. */
  async #restart(pc: RTCPeerConnection): Promise<void> {
    if (this.#pc !== pc || this.state.name === "ended") return;
    this.#set({ name: "reconnecting" });
    try {
      await pc.setLocalDescription(await pc.createOffer({ iceRestart: true }));
      const { answer } = await this.socket.ask("room.offer", { offer: pc.localDescription?.sdp ?? "" });
      if (this.#pc === pc) await pc.setRemoteDescription({ type: "answer", sdp: answer });
    } catch (error) {
      // Where the socket is away too it joins anew when it is back.
      if (!passes(error) || error.code === "disconnected" || this.#pc !== pc) return;
      // Not if the path is there again by then.
      this.#cancel_patience = this.#timers.after(error.retry_after_ms ?? AGAIN_MS, () => void this.#restart(pc));
    }
  }

  #heard(event: RoomEvent): void {
    this.hear(event);
    switch (event.event) {
      case "muted":
        // The host has silenced me: nothing leaves my device either, and what I wanted before does not count any more.
        if (event.muted && this.mine("microphone")?.track === event.track) {
          for (const one of this.local?.getAudioTracks() ?? []) one.enabled = false;
          this.wishes.drop("mute microphone");
        }
        break;
      case "data":
        if (event.ended) this.#topics.end();
        this.trouble = event.reason;
        break;
      case "layers":
        this.#watched.set(event.track, event.highest);
        this.#make_layers();
        break;
      case "role":
        // What was taken back when I was made a listener is shown again.
        if (event.participant === this.me && event.role !== "listener") {
          if (this.trouble === "role_too_low") this.trouble = null;
          void this.#publish_all().catch(() => {});
        }
        break;
      case "admitted":
        if (this.state.name === "waiting") void this.#again();
        return;
      case "closed":
        // The room is opened on another node, and waits for us there.
        if (event.reason === "moved") void this.#again();
        else this.#end(event.reason);
        return;
    }
    this.#changed();
  }

  #end(reason: string): void {
    if (this.state.name === "ended") return;
    this.#cancel_patience();
    for (const unwatch of this.#unwatch.splice(0)) unwatch();
    this.#pc?.close();
    this.#pc = null;
    for (const track of this.local?.getTracks() ?? []) track.stop();
    this.screen?.stop();
    this.wishes.clear();
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
