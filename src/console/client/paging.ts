/** Lists that arrive in pages. */

import { NovaError } from "./problem";

/** One page: no `next_cursor` means the end, and an empty page with one is not the end. */
export interface Page<T> {
  items: T[];
  next_cursor?: string | null;
}

/** Every item of a list, page after page; stop early by leaving the loop. */
export async function* walk<T>(page_at: (cursor: string | undefined) => Promise<Page<T>>): AsyncGenerator<T, void> {
  let cursor: string | undefined;
  for (;;) {
    const page = await page_at(cursor);
    yield* page.items;
    const next = page.next_cursor ?? undefined;
    if (next === undefined) return;
    if (next === cursor) throw new NovaError("unexpected_answer", "The list leads round in a circle.");
    cursor = next;
  }
}

/** The first `most` items of a list. */
export async function take<T>(items: AsyncIterable<T>, most: number): Promise<T[]> {
  const taken: T[] = [];
  if (most < 1) return taken;
  for await (const item of items) {
    taken.push(item);
    if (taken.length >= most) break;
  }
  return taken;
}
