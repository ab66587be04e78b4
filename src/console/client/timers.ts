/** Time and chance, as the client asks for them: tests give it others. */
export interface Timers {
  /** Milliseconds since 1970, as `Date.now()`. */
  now(): number;
  /** Runs `work` once after `delay_ms`; the answer takes it back. */
  after(delay_ms: number, work: () => void): () => void;
  /** A number from 0 up to, but not, 1. */
  random(): number;
}

/** The machine's own clock and dice. */
export const systemTimers: Timers = {
  now: () => Date.now(),
  after(delay_ms, work) {
    const timer = setTimeout(work, delay_ms);
    return () => clearTimeout(timer);
  },
  random: () => Math.random(),
};

/** Resolves after `delay_ms`; rejects with the signal's reason when that comes first. */
export function pause(timers: Timers, delay_ms: number, signal?: AbortSignal | null): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const give_up = () => {
      cancel();
      reject(signal?.reason);
    };
    const cancel = timers.after(delay_ms, () => {
      signal?.removeEventListener("abort", give_up);
      resolve();
    });
    signal?.addEventListener("abort", give_up, { once: true });
  });
}

/** How long to wait before trying again. */
export interface Backoff {
  first_ms: number;
  longest_ms: number;
}

/**
 * The wait before try number `attempt` (0 is the first repetition): doubling up to the longest, then somewhere in its
 * upper half, so that a thousand clients that lost the same node do not come back in the same instant.
 */
export function backoff_ms(attempt: number, { first_ms, longest_ms }: Backoff, timers: Timers): number {
  const full = Math.min(longest_ms, first_ms * 2 ** Math.min(attempt, 30));
  return full / 2 + (full / 2) * timers.random();
}
