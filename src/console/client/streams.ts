/** Live streams: making them, what is on the air, how a broadcast goes, and what was kept of it. */

import type { Answer, Http, RequestOptions } from "./http";
import { walk, type Page } from "./paging";

/** A stream as everybody sees it. */
export interface Stream {
  id: string;
  /** Whose: a user's id. */
  owner: string;
  title: string;
  /** Whether broadcasts are kept. */
  record: boolean;
  /** `idle` until somebody publishes, `live` while something is on the air, then `ended`, and perhaps `live` again. */
  state: "idle" | "live" | "ended" | (string & {});
  /** The multivariant playlist, as long as it is live. */
  playback_url: string;
  /** A picture of the broadcast, when there is one. */
  thumbnail_url?: string;
  viewers: number;
  viewers_peak: number;
  started_at?: string;
  ended_at?: string;
  created_at: string;
  updated_at: string;
}

/** How to publish to a stream. The key is in this answer only. */
export interface Publishing {
  stream: Stream;
  stream_key: string;
  ingest_url: string;
}

export interface NewStream {
  title: string;
  record?: boolean;
}

/** How a broadcast goes, for its owner. */
export interface StreamStats {
  state: Stream["state"];
  viewers: number;
  viewers_peak: number;
  /** What all viewers watched together. */
  watched_s: number;
  /** The publisher that is connected, or dropped and may come back. */
  publisher?: PublisherStats;
  /** The renditions made beside the source, where the engine is to make any. */
  transcoding?: TranscodingStats;
}

/** How the renditions beside the source go. */
export interface TranscodingStats {
  /** `refused`: the engine has no CPU for it. `restarting`: it failed, and the source goes on. */
  state: "running" | "restarting" | "refused" | (string & {});
  restarts: number;
  reason?: string;
  /** Names of renditions there is no CPU for. */
  refused: string[];
  /** Best first. */
  renditions: RenditionStats[];
}

export interface RenditionStats {
  name: string;
  width: number;
  height: number;
  bitrate_bps: number;
  /** Whether its latest part could be made. */
  flowing: boolean;
  /** Parts that could not be made. */
  gaps: number;
}

/** Rates are those of the last five seconds, counts since the publisher came. */
export interface PublisherStats {
  connected_s: number;
  encoder?: string;
  video_bitrate_bps: number;
  audio_bitrate_bps: number;
  frames_per_s: number;
  video_frames: number;
  audio_frames: number;
  gop_ms: number;
  gop_ms_longest: number;
  b_frames: boolean;
  jitter_ms: number;
  frames_skipped: number;
  frames_dropped: number;
  timestamps_mended: number;
}

/** What is kept of a broadcast. */
export interface Recording {
  id: string;
  stream: string;
  /** What the stream was called when the broadcast began. */
  title: string;
  /** `recording` while the broadcast goes on, `ready` when it can be played. */
  state: "recording" | "ready" | (string & {});
  started_at: string;
  ended_at?: string;
  /** 0 until it is ready, and so the size. */
  duration_ms: number;
  size_bytes: number;
  /** HLS, once it is ready. */
  playback_url?: string;
  thumbnail_url?: string;
}

const PAGE = 100;

export class Streams {
  constructor(private readonly http: Http) {}

  /** Makes one. */
  async create(wanted: NewStream, options?: RequestOptions): Promise<Publishing> {
    return (await this.http.post<Publishing>("/v1/streams", wanted, options)).data;
  }

  get(id: string, options?: RequestOptions): Promise<Answer<Stream>> {
    return this.http.get(path(id), options);
  }

  /** What is on the air, the newest first. */
  live(): AsyncGenerator<Stream, void> {
    return walk(async (cursor) => (await this.http.get<Page<Stream>>("/v1/streams", { query: { state: "live", cursor, limit: PAGE } })).data);
  }

  /** One's own, whatever their state, the newest first. */
  own(): AsyncGenerator<Stream, void> {
    return walk(async (cursor) => (await this.http.get<Page<Stream>>("/v1/streams", { query: { cursor, limit: PAGE } })).data);
  }

  /** Changes version `if_match`; `precondition_failed` when it was changed meanwhile. */
  change(id: string, change: Partial<NewStream>, if_match: string | null): Promise<Answer<Stream>> {
    return this.http.patch(path(id), change, if_match === null ? {} : { if_match });
  }

  /** Deletes it; who publishes to it is sent away. */
  async delete(id: string): Promise<void> {
    await this.http.delete(path(id));
  }

  /** Replaces the key; the old one is void at once. */
  async rotate_key(id: string): Promise<Publishing> {
    return (await this.http.post<Publishing>(`${path(id)}/key`)).data;
  }

  /** What is kept of its broadcasts, the newest first. */
  recordings(id: string): AsyncGenerator<Recording, void> {
    return walk(async (cursor) => (await this.http.get<Page<Recording>>(`${path(id)}/recordings`, { query: { cursor, limit: PAGE } })).data);
  }

  async recording(id: string, options?: RequestOptions): Promise<Recording> {
    return (await this.http.get<Recording>(`/v1/recordings/${encodeURIComponent(id)}`, options)).data;
  }

  /** Deletes one of one's own; it is gone for everybody at once. */
  async delete_recording(id: string): Promise<void> {
    await this.http.delete(`/v1/recordings/${encodeURIComponent(id)}`);
  }

  /** How its broadcast goes; for its owner. */
  async stats(id: string, options?: RequestOptions): Promise<StreamStats> {
    return (await this.http.get<StreamStats>(`${path(id)}/stats`, options)).data;
  }
}

function path(id: string): string {
  return `/v1/streams/${encodeURIComponent(id)}`;
}
