/** Names and faces by id, fetched when they are first wanted and kept for as long as the program runs. */

import { Problem } from "../problem";
import type { User } from "../types";
import type { Users } from "../users";

/** Fetched at once; a large group must not fill the connection. */
const AT_ONCE = 4;

/** Somebody as far as is known: `null` while not yet, `gone` when there is nobody of this id (any more). */
export type Person = User | "gone" | null;

export class People {
  readonly #users: Users;
  readonly #changed: () => void;
  readonly #known = new Map<string, Person>();
  readonly #waiting: string[] = [];
  #under_way = 0;

  constructor(users: Users, changed: () => void) {
    this.#users = users;
    this.#changed = changed;
  }

  /** What is known; asks for the rest. */
  of(id: string): Person {
    const known = this.#known.get(id);
    if (known !== undefined) return known;
    this.#known.set(id, null);
    this.#waiting.push(id);
    this.#fetch();
    return null;
  }

  /** Somebody was learnt of elsewhere. */
  learn(user: User): void {
    this.#known.set(user.id, user);
    this.#changed();
  }

  /** Asks again for those that could not be read: the connection is back. */
  again(): void {
    for (const [id, person] of this.#known) {
      if (person === null && !this.#waiting.includes(id)) this.#waiting.push(id);
    }
    this.#fetch();
  }

  #fetch(): void {
    while (this.#under_way < AT_ONCE) {
      const id = this.#waiting.shift();
      if (id === undefined) return;
      this.#under_way += 1;
      this.#users
        .get(id)
        .then(
          (answer) => this.learn(answer.data),
          (error: unknown) => {
            // Anything else is asked again with the next connection.
            if (!(error instanceof Problem) || error.status !== 404) return;
            this.#known.set(id, "gone");
            this.#changed();
          },
        )
        .finally(() => {
          this.#under_way -= 1;
          this.#fetch();
        });
    }
  }
}
