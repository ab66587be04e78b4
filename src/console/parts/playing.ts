/** What players say of themselves and what can be asked of them, over HLS and over WebRTC. */

/** How the playing goes. `waiting`: media that should be there is not. `absent`: there is nothing at the address. */
export type PlaybackState = "loading" | "playing" | "paused" | "waiting" | "ended" | "absent" | "failed";

export interface Quality {
  /** As hls.js counts it. */
  index: number;
  height: number;
  bitrate_bps: number;
}

export interface PlaybackView {
  state: PlaybackState;
  /** How far what is seen lies behind what is there, in seconds; null when it cannot be said. */
  latency_s: number | null;
  /** What the media's own clock says to that: from the engine's receipt to here, if the two clocks agree. */
  clock_latency_s: number | null;
  /** Times the playing had to wait for media after it had begun. */
  stalls: number;
  qualities: Quality[];
  /** The chosen quality; null lets the player choose. */
  quality: number | null;
  /** What is playing now. */
  playing: Quality | null;
  /** The browser would not begin with sound before somebody touched the page. */
  hushed: boolean;
}

/** What a player's buttons do. */
export interface Playing {
  readonly view: PlaybackView;
  play(): Promise<void>;
  pause(): void;
  mute(muted: boolean): void;
  choose(quality: number | null): void;
  destroy(): void;
}
