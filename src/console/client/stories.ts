/** Stories: what people tell for a day. */

import type { Http, RequestOptions } from "./http";
import type { Page } from "./paging";
import type { Author, Visibility } from "./posts";

export interface Story {
  id: string;
  author: Author;
  text: string;
  visibility: Visibility;
  mentions: string[];
  created_at: string;
  /** From then on it is gone, for everybody. */
  expires_at: string;
  /** Whether the caller has looked at it. */
  seen: boolean;
  /** How many have; only its author is told. */
  views?: number;
}

/** What one author tells, the oldest first. */
export interface Telling {
  author: Author;
  stories: Story[];
  seen: boolean;
}

/** Somebody who has looked at a story. */
export interface Viewing {
  user: Author;
  viewed_at: string;
}

const at = (id: string): string => encodeURIComponent(id).replace(/^%40/, "@");

export class Stories {
  constructor(private readonly http: Http) {}

  /** The stories of those the caller follows, and their own, by author. */
  async followed(page: { cursor?: string; limit?: number } = {}): Promise<Page<Telling>> {
    return (await this.http.get<Page<Telling>>("/v1/stories", { query: page })).data;
  }

  /** Somebody's stories. */
  async of(user: string): Promise<Page<Story>> {
    return (await this.http.get<Page<Story>>(`/v1/users/${at(user)}/stories`)).data;
  }

  async tell(story: { text: string; visibility?: Visibility }, options?: RequestOptions): Promise<Story> {
    return (await this.http.post<Story>("/v1/stories", story, options)).data;
  }

  /** Looks at one; its author sees that. */
  async view(id: string): Promise<void> {
    await this.http.put(`/v1/stories/${at(id)}/view`);
  }

  /** Who has looked at one's own story, the newest first. */
  async viewers(id: string, page: { cursor?: string; limit?: number } = {}): Promise<Page<Viewing>> {
    return (await this.http.get<Page<Viewing>>(`/v1/stories/${at(id)}/viewers`, { query: page })).data;
  }

  async remove(id: string): Promise<void> {
    await this.http.delete(`/v1/stories/${at(id)}`);
  }
}
