/** Whether media comes over another network than the browser sends over, from what the browser counts. */

/** What is counted of a connection at one moment: packets of all streams, and those over the path the browser has chosen. */
export interface Arrived {
  streams: number;
  /** Names the chosen path. */
  path: string;
  over_path: number;
}

/** The numbers of a connection; null while there is no chosen path. */
export function arrived(stats: RTCStatsReport): Arrived | null {
  let streams = 0;
  let path: string | null = null;
  stats.forEach((one: { type: string; packetsReceived?: number; selectedCandidatePairId?: string }) => {
    if (one.type === "inbound-rtp") streams += one.packetsReceived ?? 0;
    if (one.type === "transport") path = one.selectedCandidatePairId ?? null;
  });
  if (path === null) return null;
  const chosen = stats.get(path) as { packetsReceived?: number } | undefined;
  return { streams, path, over_path: chosen?.packetsReceived ?? 0 };
}

/** So many packets come over another path before that is believed: one or two may be late. */
const PACKETS_MIN = 5;

/**
 * The engine sends over another path as soon as somebody falls silent; Chromium sends over the old one until it has heard nothing there for
 * two and a half seconds. What comes where nobody looked for it says so sooner.
 */
export class Networks {
  #before: Arrived | null = null;

  /** Whether since the last time media came, and nothing of it over the chosen path. */
  has_left(now: Arrived | null): boolean {
    const before = this.#before;
    this.#before = now;
    if (!before || !now || before.path !== now.path) return false;
    return now.streams - before.streams >= PACKETS_MIN && now.over_path === before.over_path;
  }
}
