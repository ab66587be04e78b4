/** Posts, comments, likes, follows and feeds. */

import type { Answer, Http, RequestOptions } from "./http";
import type { Page } from "./paging";

/** Somebody's name, as it stands beside what they wrote. */
export interface Author {
  id: string;
  username: string;
  display_name: string;
}

export type Visibility = "public" | "followers" | "private";

export interface Post {
  id: string;
  author: Author;
  /** What it is made of: `text`. */
  kind: string;
  text: string;
  visibility: Visibility;
  tags: string[];
  mentions: string[];
  /** Grows with every edit. */
  version: number;
  likes: number;
  comments: number;
  /** Whether the caller likes it. */
  liked: boolean;
  created_at: string;
  edited_at?: string;
}

export interface Comment {
  id: string;
  post: string;
  author: Author;
  /** The comment it answers. */
  parent?: string;
  text: string;
  mentions: string[];
  replies: number;
  /** Deleted, and shown because somebody answers it. */
  deleted: boolean;
  created_at: string;
}

/** Somebody in a list of followers or followed. */
export interface Follow {
  user: Author;
  since: string;
  followed_by_me: boolean;
}

/** How a page of a feed came to be. */
export interface Ranking {
  level: string;
  model: string;
  reason?: string;
  fresh_as_of: string;
  /** Where an administrator asked for it. */
  explain?: Explanation;
}

/** How a page was made. */
export interface Explanation {
  tried: { level: string; outcome: string; took_ms: number; budget_ms: number }[];
  experiment?: { name: string; arm: string };
  posts: { post: string; score?: number; features: Record<string, number>; parts?: Record<string, number> }[];
}

export interface Feed extends Page<Post> {
  ranking: Ranking;
}

export type FeedMode = "latest" | "ranked";

export interface NewPost {
  text: string;
  visibility?: Visibility;
  tags?: string[];
}

export type PostEdit = Partial<NewPost>;

const at = (id: string): string => encodeURIComponent(id).replace(/^%40/, "@");

export class Posts {
  constructor(private readonly http: Http) {}

  /** The posts of those the caller follows, and their own. */
  async home(page: { mode?: FeedMode; cursor?: string; limit?: number; explain?: boolean } = {}, options?: RequestOptions): Promise<Feed> {
    return (await this.http.get<Feed>("/v1/feeds/home", { ...options, query: page })).data;
  }

  /** Public posts of people the caller does not follow. */
  async discover(page: { cursor?: string; limit?: number } = {}): Promise<Feed> {
    return (await this.http.get<Feed>("/v1/feeds/discover", { query: page })).data;
  }

  /** Somebody's posts, the newest first; by id, or by name with an `@` before it. */
  async of(user: string, page: { cursor?: string; limit?: number } = {}): Promise<Page<Post>> {
    return (await this.http.get<Page<Post>>(`/v1/users/${at(user)}/posts`, { query: page })).data;
  }

  get(id: string): Promise<Answer<Post>> {
    return this.http.get(`/v1/posts/${at(id)}`);
  }

  async create(post: NewPost, options?: RequestOptions): Promise<Post> {
    return (await this.http.post<Post>("/v1/posts", post, options)).data;
  }

  /** Changes a post; with `if_match`, only the version that was read. */
  async edit(id: string, edit: PostEdit, options?: RequestOptions): Promise<Post> {
    return (await this.http.patch<Post>(`/v1/posts/${at(id)}`, edit, options)).data;
  }

  async remove(id: string): Promise<void> {
    await this.http.delete(`/v1/posts/${at(id)}`);
  }

  /** Likes it or takes that back; says how many like it now. */
  async like(id: string, on: boolean): Promise<{ likes: number; liked: boolean }> {
    const path = `/v1/posts/${at(id)}/like`;
    return (on ? await this.http.put<{ likes: number; liked: boolean }>(path) : await this.http.delete<{ likes: number; liked: boolean }>(path)).data;
  }

  /** The comments on a post, or the replies to one of them, the oldest first. */
  async comments(post: string, page: { parent?: string; cursor?: string; limit?: number } = {}): Promise<Page<Comment>> {
    return (await this.http.get<Page<Comment>>(`/v1/posts/${at(post)}/comments`, { query: page })).data;
  }

  async comment(post: string, text: string, parent?: string, options?: RequestOptions): Promise<Comment> {
    return (await this.http.post<Comment>(`/v1/posts/${at(post)}/comments`, parent === undefined ? { text } : { text, parent }, options)).data;
  }

  async remove_comment(id: string): Promise<void> {
    await this.http.delete(`/v1/comments/${at(id)}`);
  }
}
