/** Live streams in words: how long, how many, how much, and whether a broadcast is well. */

import type { PublisherStats, Stream } from "../client";

/** "3:07", "1:02:09": how long something has gone on. */
export function span_words(seconds: number): string {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const hours = Math.floor(whole / 3_600);
  const minutes = Math.floor(whole / 60) % 60;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(whole % 60)}` : `${minutes}:${two(whole % 60)}`;
}

/** "2.1 Mbit/s". */
export function rate_words(bps: number): string {
  if (bps >= 1_000_000) return `${(bps / 1_000_000).toFixed(1)} Mbit/s`;
  return `${Math.round(bps / 1_000)} kbit/s`;
}

/** "48 MB". */
export function size_words(bytes: number): string {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e6 ? `${Math.round(bytes / 1e6)} MB` : `${Math.ceil(bytes / 1e3)} kB`;
}

/** "1 viewer", "1,204 viewers". */
export function viewer_words(count: number): string {
  return count === 1 ? "1 viewer" : `${count.toLocaleString("en")} viewers`;
}

/** "1.8 s behind"; of what nobody could measure with the eye, "under 0.1 s behind". */
export function latency_words(seconds: number): string {
  return seconds < 0.1 ? "under 0.1 s behind" : `${seconds.toFixed(1)} s behind`;
}

/** What a quality is called: the height people know it by, or its rate. */
export function quality_words(quality: { height: number; bitrate_bps: number }): string {
  return quality.height > 0 ? `${quality.height}p` : rate_words(quality.bitrate_bps);
}

export const STATE_WORDS: Record<string, string> = { idle: "Not live yet", live: "Live", ended: "Ended" };

/** What the state of a stream is called. */
export function state_words(state: Stream["state"]): string {
  return STATE_WORDS[state] ?? state;
}

/** One thing about a broadcast that its owner should know. */
export interface Finding {
  kind: "good" | "warn";
  title: string;
  words: string;
}

/** Longer groups of pictures make viewers begin late, and segments long. */
const GOP_MS_MAX = 2_100;
/** Pictures that come less evenly than this are felt as stalls at the usual distance from the edge. */
const JITTER_MS_MAX = 250;
/** Of all pictures, the share that may be left out before it is seen. */
const SKIPPED_SHARE_MAX = 0.01;

/** What is to be said of a broadcast: what could be better and how, or that all is well. */
export function findings_of(publisher: PublisherStats): Finding[] {
  const found: Finding[] = [];
  const warn = (title: string, words: string) => found.push({ kind: "warn", title, words });
  if (publisher.video_bitrate_bps === 0 && publisher.audio_bitrate_bps === 0) {
    warn("Nothing arrives", "The encoder is connected, but has sent nothing for five seconds. Check its network.");
    return found;
  }
  if (publisher.video_bitrate_bps === 0) warn("No picture", "Only sound arrives. Add a video source if that is not what you mean.");
  if (publisher.audio_bitrate_bps === 0) warn("No sound", "Only pictures arrive. Check that an audio source is there and not muted.");
  if (publisher.gop_ms_longest > GOP_MS_MAX) {
    warn(
      "Keyframes are far apart",
      `There were ${(publisher.gop_ms_longest / 1_000).toFixed(1)} s between two. Set the encoder's keyframe interval to 1 or 2 seconds: viewers can begin only at a keyframe.`,
    );
  }
  if (publisher.jitter_ms > JITTER_MS_MAX) {
    warn("Pictures arrive unevenly", `They come up to ${Math.round(publisher.jitter_ms)} ms late, which viewers may see as stalls. A cable in place of Wi-Fi, or a lower bitrate, helps.`);
  }
  if (publisher.frames_skipped > publisher.video_frames * SKIPPED_SHARE_MAX) {
    warn("The encoder leaves pictures out", "It cannot keep up. Choose a faster preset, a smaller picture or fewer frames a second.");
  }
  if (publisher.frames_dropped > 0) {
    warn("Some media was not usable", `${publisher.frames_dropped.toLocaleString("en")} frames could not be passed on. H.264 video with AAC sound plays everywhere.`);
  }
  if (found.length === 0) found.push({ kind: "good", title: "All is well", words: "Picture and sound arrive as they should." });
  return found;
}

/** The command that publishes a file with FFmpeg, ready to be pasted into a shell. */
export function ffmpeg_words(ingest_url: string, key: string): string {
  return `ffmpeg -re -i video.mp4 -c:v libx264 -preset veryfast -b:v 3M -g 60 -c:a aac -b:a 160k -f flv '${ingest_url}/${key}'`;
}
