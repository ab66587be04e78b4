/** Live streams in words. */

import assert from "node:assert/strict";
import { test } from "node:test";
import type { PublisherStats } from "../client";
import { ffmpeg_words, findings_of, latency_words, quality_words, rate_words, size_words, span_words, viewer_words } from "../parts/live_words";
import { whep_url } from "../parts/whep";

const WELL: PublisherStats = {
  connected_s: 10,
  video_bitrate_bps: 2_000_000,
  audio_bitrate_bps: 128_000,
  frames_per_s: 30,
  video_frames: 300,
  audio_frames: 430,
  gop_ms: 1_000,
  gop_ms_longest: 1_033,
  b_frames: false,
  jitter_ms: 4,
  frames_skipped: 0,
  frames_dropped: 0,
  timestamps_mended: 0,
};

test("a broadcast that is well is told so, and each fault has its remedy", () => {
  const titles = (change: Partial<PublisherStats>) => findings_of({ ...WELL, ...change }).map((one) => one.title);
  assert.deepEqual(titles({}), ["All is well"]);
  assert.deepEqual(titles({ gop_ms_longest: 4_000 }), ["Keyframes are far apart"]);
  assert.deepEqual(titles({ audio_bitrate_bps: 0 }), ["No sound"]);
  assert.deepEqual(titles({ video_bitrate_bps: 0, audio_bitrate_bps: 0, jitter_ms: 900 }), ["Nothing arrives"], "the rest follows from it");
  assert.deepEqual(titles({ jitter_ms: 400, frames_skipped: 4, frames_dropped: 1 }), ["Pictures arrive unevenly", "The encoder leaves pictures out", "Some media was not usable"]);
  assert.deepEqual(titles({ frames_skipped: 2 }), ["All is well"], "two in three hundred are not seen");
});

test("where a stream is watched over WebRTC follows from where it is played, the token included", () => {
  assert.equal(whep_url("/live/stream_x/index.m3u8"), "/whep/stream_x");
  assert.equal(whep_url("/live/stream_x/index.m3u8?token=a_b-c"), "/whep/stream_x?token=a_b-c");
});

test("times, rates and counts are told as people tell them", () => {
  assert.deepEqual([0, 67.9, 3_729, -1].map(span_words), ["0:00", "1:07", "1:02:09", "0:00"]);
  assert.deepEqual([128_400, 2_080_000].map(rate_words), ["128 kbit/s", "2.1 Mbit/s"]);
  assert.deepEqual([0, 1, 1_204].map(viewer_words), ["0 viewers", "1 viewer", "1,204 viewers"]);
  assert.deepEqual([900, 48_200_000, 2_340_000_000].map(size_words), ["1 kB", "48 MB", "2.3 GB"]);
  assert.deepEqual([1.84, 0.14, 0.03].map(latency_words), ["1.8 s behind", "0.1 s behind", "under 0.1 s behind"]);
  assert.deepEqual([{ height: 720, bitrate_bps: 1 }, { height: 0, bitrate_bps: 128_000 }].map(quality_words), ["720p", "128 kbit/s"]);
  assert.match(ffmpeg_words("rtmp://a/live", "live_x"), / -f flv 'rtmp:\/\/a\/live\/live_x'$/);
});
