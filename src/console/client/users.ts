/** Other people. */

import type { Answer, Http, RequestOptions } from "./http";
import type { Page } from "./paging";
import type { Follow } from "./posts";
import type { Profile } from "./types";

const at = (who: string): string => encodeURIComponent(who).replace(/^%40/, "@");

export class Users {
  constructor(private readonly http: Http) {}

  /** By id, or by name with an `@` before it. */
  get(who: string, options?: RequestOptions): Promise<Answer<Profile>> {
    return this.http.get(`/v1/users/${at(who)}`, options);
  }

  /** Neither can write to the other directly from now on. */
  async block(id: string): Promise<void> {
    await this.http.put(`/v1/users/${encodeURIComponent(id)}/block`);
  }

  async unblock(id: string): Promise<void> {
    await this.http.delete(`/v1/users/${encodeURIComponent(id)}/block`);
  }

  /** See somebody's posts in one's feed, or no longer. */
  async follow(who: string, on: boolean): Promise<void> {
    await (on ? this.http.put(`/v1/users/${at(who)}/follow`) : this.http.delete(`/v1/users/${at(who)}/follow`));
  }

  /** Follow and not see, without them knowing; or see again. */
  async mute(who: string, on: boolean): Promise<void> {
    await (on ? this.http.put(`/v1/users/${at(who)}/mute`) : this.http.delete(`/v1/users/${at(who)}/mute`));
  }

  async followers(who: string, page: { cursor?: string; limit?: number } = {}): Promise<Page<Follow>> {
    return (await this.http.get<Page<Follow>>(`/v1/users/${at(who)}/followers`, { query: page })).data;
  }

  async following(who: string, page: { cursor?: string; limit?: number } = {}): Promise<Page<Follow>> {
    return (await this.http.get<Page<Follow>>(`/v1/users/${at(who)}/following`, { query: page })).data;
  }
}
