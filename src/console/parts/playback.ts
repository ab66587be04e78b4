/**
 * Playing one HLS address in a video element: low-latency through hls.js where Media Source Extensions are there, by the
 * browser itself where they are not (iPhones).
 *
 * hls.js runs without its worker: our segments are fMP4, which it only passes on, and the console's policy lets no script be made
 * of text.
 */

import Hls, { type ErrorData, type HlsConfig, type Level } from "hls.js/light";
import type { PlaybackState, PlaybackView, Playing, Quality } from "./playing";

/** After a pause longer than this behind the edge, going on means going to the edge. */
const BEHIND_S_MAX = 4;
/** Between two attempts after a failure that may pass. */
const RETRY_MS = [1_000, 2_000, 4_000, 8_000];
/** A decoder that fails again within so long is not worth another try. */
const MEDIA_RECOVERY_MS = 5_000;
/** What is there and not shown for so long will not be: a decoder that sound out of time has confused waits for ever. */
const STUCK_MS = 1_500;
/** So much is there then, in seconds; with less it is the network that is waited for. */
const STUCK_AHEAD_S = 0.5;

const SETTINGS: Partial<HlsConfig> = {
  lowLatencyMode: true,
  enableWorker: false,
  // What was watched is kept for a moment only: nobody goes back in a live stream.
  backBufferLength: 10,
  maxBufferLength: 20,
  liveDurationInfinity: true,
  // What a late start or a stall cost is made up for by playing a little faster; ten in a hundred are hardly heard.
  maxLiveSyncPlaybackRate: 1.1,
  liveSyncOnStallIncrease: 0.34,
};

export class Playback implements Playing {
  readonly #video: HTMLVideoElement;
  readonly #url: string;
  readonly #live: boolean;
  readonly #changed: (view: PlaybackView) => void;
  readonly #events = new AbortController();
  #hls: Hls | null = null;
  #state: PlaybackState = "loading";
  #begun = false;
  #stalls = 0;
  #failures = 0;
  #recovered_at = Number.NEGATIVE_INFINITY;
  #retry: ReturnType<typeof setTimeout> | undefined;
  #stuck: ReturnType<typeof setInterval> | undefined;
  #hushed = false;
  #chosen: number | null = null;

  constructor(parts: { video: HTMLVideoElement; url: string; live: boolean; changed(view: PlaybackView): void }) {
    this.#video = parts.video;
    this.#url = parts.url;
    this.#live = parts.live;
    this.#changed = parts.changed;
    this.#listen();
    if (Hls.isSupported()) this.#open();
    else if (this.#video.canPlayType("application/vnd.apple.mpegurl") !== "") {
      this.#video.src = this.#url;
      if (this.#live) void this.play();
    } else this.#become("failed");
  }

  get view(): PlaybackView {
    const hls = this.#hls;
    const qualities = (hls?.levels ?? []).map(quality_of);
    const playing = hls && hls.currentLevel >= 0 ? (qualities[hls.currentLevel] ?? null) : null;
    const moving = this.#state === "playing" || this.#state === "waiting";
    const latency_s = hls && this.#live && moving && hls.latency > 0 ? hls.latency : null;
    const date = this.#live && moving ? hls?.playingDate : null;
    return {
      state: this.#state,
      latency_s,
      clock_latency_s: date ? (Date.now() - date.getTime()) / 1_000 : null,
      stalls: this.#stalls,
      qualities,
      quality: this.#chosen,
      playing,
      hushed: this.#hushed,
    };
  }

  /** Plays, at the live edge when that is far by now; without sound if the browser does not allow it unasked. */
  async play(): Promise<void> {
    const edge = this.#hls?.liveSyncPosition ?? null;
    if (this.#live && edge !== null && this.#begun && edge - this.#video.currentTime > BEHIND_S_MAX) this.#video.currentTime = edge;
    try {
      await this.#video.play();
    } catch (error) {
      if (!(error instanceof DOMException) || error.name !== "NotAllowedError" || this.#video.muted) return;
      this.#video.muted = true;
      this.#hushed = true;
      this.#tell();
      await this.#video.play().catch(() => this.#become("paused"));
    }
  }

  pause(): void {
    this.#video.pause();
  }

  /** Sound on or off, as somebody asked for. */
  mute(muted: boolean): void {
    this.#video.muted = muted;
    this.#hushed = false;
    this.#tell();
  }

  /** Stays with one quality; null lets the player choose. */
  choose(quality: number | null): void {
    this.#chosen = quality;
    if (this.#hls) this.#hls.nextLevel = quality ?? -1;
    this.#tell();
  }

  /** Ends it; the video element is as it was before. */
  destroy(): void {
    clearTimeout(this.#retry);
    clearInterval(this.#stuck);
    this.#events.abort();
    this.#hls?.destroy();
    this.#hls = null;
    if (this.#video.hasAttribute("src")) {
      this.#video.removeAttribute("src");
      this.#video.load();
    }
  }

  #open(): void {
    const hls = new Hls(SETTINGS);
    this.#hls = hls;
    hls.on(Hls.Events.MANIFEST_PARSED, () => {
      if (this.#live) void this.play();
      this.#tell();
    });
    hls.on(Hls.Events.LEVEL_SWITCHED, () => this.#tell());
    hls.on(Hls.Events.FRAG_BUFFERED, () => {
      this.#failures = 0;
    });
    hls.on(Hls.Events.ERROR, (_, error) => {
      if (error.fatal) this.#fail(hls, error);
    });
    hls.loadSource(this.#url);
    hls.attachMedia(this.#video);
  }

  #fail(hls: Hls, error: ErrorData): void {
    if (error.type === Hls.ErrorTypes.MEDIA_ERROR && performance.now() - this.#recovered_at > MEDIA_RECOVERY_MS) {
      this.#recovered_at = performance.now();
      hls.recoverMediaError();
      return;
    }
    hls.destroy();
    this.#hls = null;
    // The playlist is not there (any more): somebody else knows whether it will come.
    if (error.response?.code === 404) return this.#become("absent");
    const wait_ms = RETRY_MS[Math.min(this.#failures, RETRY_MS.length - 1)] ?? 0;
    this.#failures += 1;
    this.#become(error.type === Hls.ErrorTypes.NETWORK_ERROR || this.#failures < RETRY_MS.length ? "waiting" : "failed");
    if (this.#state === "waiting") this.#retry = setTimeout(() => this.#open(), wait_ms);
  }

  #listen(): void {
    const video = this.#video;
    const on = (event: string, heard: () => void) => video.addEventListener(event, heard, { signal: this.#events.signal });
    on("playing", () => {
      clearInterval(this.#stuck);
      this.#begun = true;
      this.#become("playing");
    });
    on("pause", () => {
      if (!video.ended && this.#state !== "absent") this.#become("paused");
    });
    on("waiting", () => {
      if (this.#begun && !video.seeking && this.#state === "playing") this.#stalls += 1;
      if (this.#state !== "absent") this.#become(this.#begun ? "waiting" : "loading");
      this.#watch();
    });
    on("ended", () => this.#become("ended"));
    on("volumechange", () => this.#tell());
    on("timeupdate", () => this.#tell());
  }

  /** Moves a playing on that waits although there is enough to play; hls.js only does so where there is a gap. */
  #watch(): void {
    clearInterval(this.#stuck);
    const video = this.#video;
    const at = video.currentTime;
    this.#stuck = setInterval(() => {
      if (video.currentTime !== at) return clearInterval(this.#stuck);
      if (video.paused || video.seeking || ahead_s(video) < STUCK_AHEAD_S) return;
      const edge = this.#live ? (this.#hls?.liveSyncPosition ?? null) : null;
      video.currentTime = edge !== null && edge > at ? edge : at + 0.1;
    }, STUCK_MS);
  }

  #become(state: PlaybackState): void {
    this.#state = state;
    this.#tell();
  }

  #tell(): void {
    this.#changed(this.view);
  }
}

/** What can be played from here without a gap, in seconds. */
function ahead_s({ buffered, currentTime }: HTMLVideoElement): number {
  for (let at = 0; at < buffered.length; at++) {
    if (buffered.start(at) <= currentTime && currentTime < buffered.end(at)) return buffered.end(at) - currentTime;
  }
  return 0;
}

function quality_of(level: Level, index: number): Quality {
  return { index, height: level.height, bitrate_bps: level.averageBitrate || level.bitrate };
}
