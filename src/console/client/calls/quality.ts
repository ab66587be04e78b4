/** How good a connection is, from what the browser counts. */

/** How the connection is, as somebody in a call feels it. */
export type Quality = "good" | "fair" | "poor";

/** From here on a connection is fair, or poor: round trip in seconds, share of packets lost. */
const FAIR = { trip_s: 0.25, lost: 0.02 };
const POOR = { trip_s: 0.6, lost: 0.08 };

export class Gauge {
  /** What came and what was lost when it was last looked at. */
  #counted = { received: 0, lost: 0 };

  /** How it has been since the last time. */
  read(stats: RTCStatsReport): Quality {
    let trip_s = 0;
    const now = { received: 0, lost: 0 };
    stats.forEach((one: { type: string; nominated?: boolean; currentRoundTripTime?: number; packetsReceived?: number; packetsLost?: number }) => {
      if (one.type === "candidate-pair" && one.nominated) trip_s = one.currentRoundTripTime ?? 0;
      if (one.type === "inbound-rtp") {
        now.received += one.packetsReceived ?? 0;
        now.lost += Math.max(0, one.packetsLost ?? 0);
      }
    });
    const received = Math.max(0, now.received - this.#counted.received);
    const missing = Math.max(0, now.lost - this.#counted.lost);
    this.#counted = now;
    const lost = received + missing === 0 ? 0 : missing / (received + missing);
    if (trip_s >= POOR.trip_s || lost >= POOR.lost) return "poor";
    return trip_s >= FAIR.trip_s || lost >= FAIR.lost ? "fair" : "good";
  }
}
