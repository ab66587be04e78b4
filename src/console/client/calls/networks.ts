/** Whether media comes over another network than the browser sends over, from what the browser counts. */

/** What is counted of a connection at one moment: packets over the path the browser has chosen, and over all others. */
export interface Arrived {
  /** Names the chosen path. */
  path: string;
  over_path: number;
  elsewhere: number;
}

/** The numbers of a connection; null while there is no chosen path. */
export function arrived(stats: RTCStatsReport): Arrived | null {
  let path: string | null = null;
  // Media alone is counted here, not the requests that keep paths open.
  const counted = new Map<string, number>();
  stats.forEach((one: { id: string; type: string; packetsReceived?: number; selectedCandidatePairId?: string }) => {
    if (one.type === "transport") path = one.selectedCandidatePairId ?? null;
    if (one.type === "candidate-pair") counted.set(one.id, one.packetsReceived ?? 0);
  });
  if (path === null) return null;
  const over_path = counted.get(path) ?? 0;
  const all = [...counted.values()].reduce((sum, packets) => sum + packets, 0);
  return { path, over_path, elsewhere: all - over_path };
}

/** So many packets come over another path before that is believed: one or two may be late. */
const PACKETS_MIN = 5;

/**
 * The engine sends over another path as soon as somebody falls silent; Chromium sends over the old one until it has heard nothing there for
 * two and a half seconds. What comes where nobody looked for it says so sooner.
 */
export class Networks {
  #before: Arrived | null = null;

  /** Whether since the last time media came over other paths, and nothing over the chosen one. */
  has_left(now: Arrived | null): boolean {
    const before = this.#before;
    this.#before = now;
    if (!before || !now || before.path !== now.path) return false;
    return now.elsewhere - before.elsewhere >= PACKETS_MIN && now.over_path === before.over_path;
  }
}
