/** Other people. */

import type { Answer, Http, RequestOptions } from "./http";
import type { User } from "./types";

export class Users {
  constructor(private readonly http: Http) {}

  /** By id, or by name with an `@` before it. */
  get(who: string, options?: RequestOptions): Promise<Answer<User>> {
    return this.http.get(`/v1/users/${encodeURIComponent(who).replace(/^%40/, "@")}`, options);
  }

  /** Neither can write to the other directly from now on. */
  async block(id: string): Promise<void> {
    await this.http.put(`/v1/users/${encodeURIComponent(id)}/block`);
  }

  async unblock(id: string): Promise<void> {
    await this.http.delete(`/v1/users/${encodeURIComponent(id)}/block`);
  }
}
