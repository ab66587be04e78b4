/** The picture with its few buttons: playing, sound, quality, the lowest latency, the whole screen, and how far behind one is. */

import { useEffect, useRef, useState } from "preact/hooks";
import { Icon } from "../../parts/icon";
import { latency_words, quality_words } from "../../parts/live_words";
import { Playback } from "../../parts/playback";
import type { PlaybackView, Playing } from "../../parts/playing";
import { WhepPlayback } from "../../parts/whep";

interface PlayerProps {
  url: string;
  /** Where the same is watched over WebRTC. */
  whep: string;
  title: string;
  /** Told of every change; the page beside decides what it means for the stream. */
  on_view(view: PlaybackView): void;
  /** Nothing comes over WebRTC: the page beside looks whether the stream is over. */
  on_starving(): void;
}

const VOLUME = "nova.volume";
const LOWEST = "nova.lowest_latency";
const CAN_LOWEST = typeof RTCPeerConnection === "function";

/** A live stream at its edge. It begins by itself. */
export function LivePlayer({ url, whep, title, on_view, on_starving }: PlayerProps) {
  const video = useRef<HTMLVideoElement>(null);
  const stage = useRef<HTMLDivElement>(null);
  const playback = useRef<Playing | null>(null);
  // A private stream's address is signed anew whenever the stream is read: what is asked later is asked with a token that is still good.
  const newest = useRef({ whep, on_starving });
  newest.current = { whep, on_starving };
  const [view, set_view] = useState<PlaybackView | null>(null);
  const [whole, set_whole] = useState(false);
  /** Over WebRTC, if that is wanted and was not refused. */
  const [lowest, set_lowest] = useState(CAN_LOWEST && kept(LOWEST) === "yes");
  const [refused, set_refused] = useState<string | null>(null);

  useEffect(() => {
    const element = video.current;
    if (!element) return undefined;
    element.volume = kept_volume();
    const changed = (now: PlaybackView) => {
      set_view(now);
      on_view(now);
    };
    const mine: Playing = lowest
      ? new WhepPlayback({
          video: element,
          url: () => newest.current.whep,
          starves: () => newest.current.on_starving(),
          changed,
          refused: (words) => {
            set_refused(words);
            set_lowest(false);
          },
        })
      : new Playback({ video: element, url, live: true, changed });
    changed(mine.view);
    playback.current = mine;
    return () => {
      playback.current = null;
      mine.destroy();
    };
  }, [url, lowest]);
  useEffect(() => {
    const look = () => set_whole(document.fullscreenElement === stage.current);
    document.addEventListener("fullscreenchange", look);
    return () => document.removeEventListener("fullscreenchange", look);
  }, []);

  const paused = view?.state === "paused";
  const muted = video.current?.muted ?? false;
  const toggle = () => (paused ? void playback.current?.play() : playback.current?.pause());
  const hurry = () => {
    set_refused(null);
    keep(LOWEST, lowest ? "no" : "yes");
    set_lowest(!lowest);
  };
  const fill = async () => {
    if (document.fullscreenElement) await document.exitFullscreen();
    else if (stage.current?.requestFullscreen) await stage.current.requestFullscreen();
    // iPhones give the whole screen to the video alone.
    else (video.current as (HTMLVideoElement & { webkitEnterFullscreen?(): void }) | null)?.webkitEnterFullscreen?.();
  };
  const on_key = (event: KeyboardEvent) => {
    if (event.target !== stage.current || event.ctrlKey || event.metaKey || event.altKey) return;
    const act: Record<string, () => void> = { " ": toggle, k: toggle, m: () => playback.current?.mute(!muted), f: () => void fill() };
    const found = act[event.key];
    if (found) {
      event.preventDefault();
      found();
    }
  };
  const words = view ? waiting_words(view) : null;
  return (
    <div
      class="stage"
      ref={stage}
      role="group"
      aria-label={`Player: ${title}`}
      tabIndex={0}
      onKeyDown={on_key}
      data-state={view?.state ?? "loading"}
      data-over={lowest ? "webrtc" : "hls"}
      data-stalls={view?.stalls ?? 0}
      data-latency={view?.latency_s ?? undefined}
      data-clock-latency={view?.clock_latency_s ?? undefined}
    >
      <video ref={video} playsInline onClick={toggle} />
      {words && (
        <p class="over" role="status">
          {view?.state !== "paused" && <span class="spinner" aria-hidden="true" />}
          {words}
        </p>
      )}
      {refused && (
        <p class="refused" role="status">
          <span>
            <strong>Not at the lowest latency.</strong> {refused}
          </span>
          <button type="button" class="quiet" aria-label="Close" title="Close" onClick={() => set_refused(null)}>
            <Icon name="close" />
          </button>
        </p>
      )}
      {view?.hushed && (
        <button type="button" class="hushed" onClick={() => playback.current?.mute(false)}>
          <Icon name="silent" /> Play with sound
        </button>
      )}
      <div class="controls">
        <button type="button" class="quiet" aria-label={paused ? "Play" : "Pause"} title={paused ? "Play" : "Pause"} onClick={toggle}>
          <Icon name={paused ? "play" : "pause"} />
        </button>
        <button
          type="button"
          class="quiet"
          aria-label="Mute"
          aria-pressed={muted}
          title={muted ? "Sound on" : "Sound off"}
          onClick={() => playback.current?.mute(!muted)}
        >
          <Icon name={muted ? "silent" : "sound"} />
        </button>
        <input
          type="range"
          class="volume"
          aria-label="Volume"
          min="0"
          max="1"
          step="0.05"
          value={muted ? 0 : (video.current?.volume ?? 1)}
          onInput={(event) => {
            const volume = Number(event.currentTarget.value);
            if (video.current) video.current.volume = volume;
            keep(VOLUME, String(volume));
            playback.current?.mute(volume === 0);
          }}
        />
        <span class="grow" />
        {view && view.latency_s !== null && (
          <span class="latency" title="How far what you see lies behind the live edge">
            {latency_words(view.latency_s)}
          </span>
        )}
        {CAN_LOWEST && (
          <button
            type="button"
            class="quiet lowest"
            aria-pressed={lowest}
            aria-label="Lowest latency"
            title={lowest ? "At the lowest latency (WebRTC). Turn it off for more steadiness and a choice of quality." : "Lowest latency: see it a moment after it happens (WebRTC)"}
            onClick={hurry}
          >
            <Icon name="bolt" filled={lowest} />
          </button>
        )}
        {view && view.qualities.length > 1 && (
          <select
            class="quality"
            aria-label="Quality"
            value={String(view.quality ?? "auto")}
            onChange={(event) => playback.current?.choose(event.currentTarget.value === "auto" ? null : Number(event.currentTarget.value))}
          >
            <option value="auto">Auto{view.quality === null && view.playing ? ` (${quality_words(view.playing)})` : ""}</option>
            {[...view.qualities].reverse().map((one) => (
              <option key={one.index} value={String(one.index)}>
                {quality_words(one)}
              </option>
            ))}
          </select>
        )}
        <button type="button" class="quiet" aria-label={whole ? "Leave the whole screen" : "Whole screen"} title={whole ? "Leave the whole screen" : "Whole screen"} onClick={() => void fill()}>
          <Icon name={whole ? "part" : "whole"} />
        </button>
      </div>
    </div>
  );
}

function waiting_words(view: PlaybackView): string | null {
  switch (view.state) {
    case "loading":
      return "Tuning in…";
    case "waiting":
      return "Waiting for the picture…";
    case "paused":
      return "Paused";
    case "failed":
      return "This browser cannot play the stream. A newer one, or another, will.";
    default:
      return null;
  }
}

function kept_volume(): number {
  const volume = Number(kept(VOLUME) ?? "1");
  return volume >= 0 && volume <= 1 ? volume : 1;
}

function kept(name: string): string | null {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

function keep(name: string, value: string): void {
  try {
    localStorage.setItem(name, value);
  } catch {
    // Closed to us: the next visit begins as the first.
  }
}
