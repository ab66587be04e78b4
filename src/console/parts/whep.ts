/**
 * Watching a live stream over WebRTC (WHEP): some tenths of a second behind the camera, where the stream and the network allow it.
 *
 * Whoever opens this falls back to HLS when it is refused: a stream with B-frames, a full house, a network that lets no UDP through.
 */

import { backoff_ms, systemTimers, type Timers } from "../client/timers";
import type { Playing, PlaybackState, PlaybackView } from "./playing";

/** A connection that has not come about by then will not. */
const CONNECT_MS = 10_000;
/** A connection that was lost for so long is made anew. */
const LOST_MS = 2_000;
/** Where no picture comes for so long it is asked anew: a broadcast of another kind may have begun, or the publisher be away. */
const STILL_MS = 5_000;
/**
 * How often it is asked while nobody publishes: a broadcast is announced a moment before its first picture, and a publisher whose network
 * failed may come back for as long as the operator allows, up to ten minutes. Whether the stream is over is not said here but by its state.
 */
const ABSENT = { first_ms: 1_000, longest_ms: 5_000 };
/** Attempts in a row before it is given up, and the pause between two that the engine asked for none. */
const TRIES_MAX = 3;
const PAUSE_MS = 1_000;
/** No pause that is asked for is kept longer than this. */
const ASKED_MS_MAX = 30_000;
/** How often the latency is measured. */
const MEASURE_EVERY_MS = 1_000;

interface Parts {
  video: HTMLVideoElement;
  /** Where offers go to now, the token of a private stream included. */
  url(): string;
  /** Nothing comes, and it will be asked again: whoever shows this looks whether the stream is over, and then destroys it. */
  starves(): void;
  changed(view: PlaybackView): void;
  /** It cannot be watched so, and why; nothing more comes. */
  refused(words: string): void;
  timers?: Timers;
}

/** What stands in `/live/…/index.m3u8?token=…` and where the same is watched over WebRTC. */
export function whep_url(playback_url: string): string {
  return playback_url.replace(/\/live\/([^/]+)\/index\.m3u8/, "/whep/$1");
}

export class WhepPlayback implements Playing {
  readonly #parts: Parts;
  readonly #events = new AbortController();
  readonly #timers: Timers;
  /** Takes back what was to be done later. */
  readonly #later = new Set<() => void>();
  #pc: RTCPeerConnection | null = null;
  #session: string | null = null;
  #state: PlaybackState = "loading";
  #begun = false;
  #over = false;
  #stalls = 0;
  #tries = 0;
  /** How often in a row it was answered that nobody publishes. */
  #absences = 0;
  #hushed = false;
  #latency_s: number | null = null;
  /** Seconds and pictures in the jitter buffer, as last measured. */
  #buffered: [number, number] = [0, 0];
  /** When another picture was last seen to have come. */
  #moved_at = 0;

  constructor(parts: Parts) {
    this.#parts = parts;
    this.#timers = parts.timers ?? systemTimers;
    this.#listen();
    const ticks = setInterval(() => void this.#measure(), MEASURE_EVERY_MS);
    this.#events.signal.addEventListener("abort", () => clearInterval(ticks));
    void this.#open();
  }

  get view(): PlaybackView {
    return {
      state: this.#state,
      latency_s: this.#state === "playing" ? this.#latency_s : null,
      clock_latency_s: null,
      stalls: this.#stalls,
      qualities: [],
      quality: null,
      playing: null,
      hushed: this.#hushed,
    };
  }

  async play(): Promise<void> {
    const { video } = this.#parts;
    try {
      await video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError" || video.muted) return;
      video.muted = true;
      this.#hushed = true;
      this.#tell();
      await video.play().catch(() => this.#become("paused"));
    }
  }

  pause(): void {
    this.#parts.video.pause();
  }

  mute(muted: boolean): void {
    this.#parts.video.muted = muted;
    this.#hushed = false;
    this.#tell();
  }

  /** There is one quality: the publisher's own. */
  choose(): void {}

  destroy(): void {
    this.#over = true;
    this.#events.abort();
    this.#close();
    this.#parts.video.srcObject = null;
  }

  async #open(): Promise<void> {
    const pc = new RTCPeerConnection();
    this.#pc = pc;
    this.#buffered = [0, 0];
    this.#moved_at = performance.now();
    const media = new MediaStream();
    pc.addTransceiver("audio", { direction: "recvonly" });
    pc.addTransceiver("video", { direction: "recvonly" });
    pc.ontrack = ({ track }) => {
      media.addTrack(track);
      this.#parts.video.srcObject = media;
      void this.play();
    };
    pc.onconnectionstatechange = () => this.#connection(pc);
    try {
      await pc.setLocalDescription();
      const answer = await fetch(this.#parts.url(), {
        method: "POST",
        headers: { "content-type": "application/sdp" },
        body: pc.localDescription?.sdp ?? "",
      });
      const text = await answer.text();
      const session = answer.headers.get("location");
      // The engine that answered may be another than the one that was asked.
      const address = session === null ? null : new URL(session, answer.url).href;
      if (this.#pc !== pc) return void leave(address);
      if (!answer.ok) return this.#answered(answer, text);
      this.#absences = 0;
      this.#session = address;
      await pc.setRemoteDescription({ type: "answer", sdp: text });
    } catch {
      if (this.#pc === pc) this.#again(PAUSE_MS, "The engine cannot be reached over WebRTC.");
      return;
    }
    this.#after(CONNECT_MS, () => {
      if (this.#pc === pc && pc.connectionState !== "connected") this.#refuse("Your network lets no media through that comes over WebRTC.");
    });
  }

  /** It was refused, for now or for good. */
  #answered(answer: Response, text: string): void {
    if (answer.status === 404) return this.#gone();
    const words = detail_of(text) ?? `The engine answered ${answer.status}.`;
    const asked_ms = Number(answer.headers.get("retry-after") ?? "") * 1_000;
    const wait_ms = asked_ms > 0 ? Math.min(asked_ms, ASKED_MS_MAX) : PAUSE_MS;
    if (answer.status === 503) return this.#again(wait_ms, words);
    if (answer.status !== 409) return this.#refuse(words);
    // The engine is there and answers: whatever failed before was not the way to it.
    this.#tries = 0;
    this.#open_after(Math.max(wait_ms, backoff_ms(this.#absences, ABSENT, this.#timers)));
    this.#absences += 1;
  }

  #connection(pc: RTCPeerConnection): void {
    if (this.#pc !== pc) return;
    if (pc.connectionState === "connected") this.#tries = 0;
    if (pc.connectionState === "failed" || pc.connectionState === "closed") this.#again(0, "The connection was lost again and again.");
    if (pc.connectionState === "disconnected") {
      this.#after(LOST_MS, () => {
        if (this.#pc === pc && pc.connectionState === "disconnected") this.#again(0, "The connection was lost again and again.");
      });
    }
  }

  #again(wait_ms: number, words: string): void {
    this.#tries += 1;
    if (this.#tries >= TRIES_MAX) return this.#refuse(words);
    this.#open_after(wait_ms);
  }

  #open_after(wait_ms: number): void {
    this.#close();
    this.#become(this.#begun ? "waiting" : "loading");
    this.#after(wait_ms, () => void this.#open());
    this.#parts.starves();
  }

  /** Nothing is on the air any more. */
  #gone(): void {
    this.#close();
    this.#become("absent");
  }

  #refuse(words: string): void {
    this.#close();
    this.#parts.refused(words);
  }

  #close(): void {
    for (const cancel of this.#later) cancel();
    this.#later.clear();
    const pc = this.#pc;
    this.#pc = null;
    pc?.close();
    leave(this.#session);
    this.#session = null;
  }

  #after(wait_ms: number, act: () => void): void {
    const cancel = this.#timers.after(wait_ms, () => {
      this.#later.delete(cancel);
      if (!this.#over) act();
    });
    this.#later.add(cancel);
  }

  /** How long pictures wait here, and half the way there and back: what lies between the engine and the eye. */
  async #measure(): Promise<void> {
    const pc = this.#pc;
    if (pc?.connectionState !== "connected") return;
    let waited: [number, number] | null = null;
    let round_trip_s = 0;
    for (const one of (await pc.getStats()).values()) {
      if (one.type === "inbound-rtp" && one.kind === "video") waited = [one.jitterBufferDelay ?? 0, one.jitterBufferEmittedCount ?? 0];
      if (one.type === "candidate-pair" && one.nominated) round_trip_s = one.currentRoundTripTime ?? 0;
    }
    if (this.#pc !== pc || waited === null) return;
    const [seconds, pictures] = [waited[0] - this.#buffered[0], waited[1] - this.#buffered[1]];
    if (pictures > 0 && seconds >= 0) this.#latency_s = seconds / pictures + round_trip_s / 2;
    this.#buffered = waited;
    const now = performance.now();
    if (pictures > 0 || this.#state === "paused") this.#moved_at = now;
    else if (now - this.#moved_at > STILL_MS) return this.#again(0, "No picture comes over WebRTC.");
    this.#tell();
  }

  #listen(): void {
    const { video } = this.#parts;
    const on = (event: string, heard: () => void) => video.addEventListener(event, heard, { signal: this.#events.signal });
    on("playing", () => {
      this.#begun = true;
      this.#become("playing");
    });
    on("pause", () => {
      if (this.#pc) this.#become("paused");
    });
    on("waiting", () => {
      if (this.#begun && this.#state === "playing") this.#stalls += 1;
      if (this.#pc) this.#become(this.#begun ? "waiting" : "loading");
    });
    on("volumechange", () => this.#tell());
    on("timeupdate", () => this.#tell());
  }

  #become(state: PlaybackState): void {
    this.#state = state;
    this.#tell();
  }

  #tell(): void {
    if (!this.#over) this.#parts.changed(this.view);
  }
}

/** Says to the engine that one leaves, also when the page goes away. */
function leave(session: string | null): void {
  if (session !== null) void fetch(session, { method: "DELETE", keepalive: true }).catch(() => undefined);
}

function detail_of(text: string): string | null {
  try {
    const detail: unknown = JSON.parse(text).detail;
    return typeof detail === "string" ? detail.charAt(0).toUpperCase() + detail.slice(1) : null;
  } catch {
    return null;
  }
}
