/** Signing up, and the account that is one's own. */

import type { Answer, Http, RequestOptions } from "./http";
import type { Tokens } from "./tokens";
import type { Me, NewAccount, ProfileChange, Proof, SignedIn } from "./types";

export class Accounts {
  constructor(
    private readonly http: Http,
    private readonly tokens: Tokens,
  ) {}

  /** Signs up and is logged in. Problems: `username_taken`, `email_taken`, `invalid_fields`. */
  async sign_up(account: NewAccount, options?: RequestOptions): Promise<SignedIn> {
    const { data } = await this.http.post<SignedIn>("/v1/accounts", account, { ...options, anonymous: true });
    this.tokens.adopt(data);
    return data;
  }

  /** One's own account, with the version to hand to {@link change}. */
  me(options?: RequestOptions): Promise<Answer<Me>> {
    return this.http.get("/v1/me", options);
  }

  /** Changes the given fields of version `if_match`; `precondition_failed` when it was changed meanwhile. */
  change(change: ProfileChange, if_match: string | null): Promise<Answer<Me>> {
    return this.http.patch("/v1/me", change, if_match === null ? {} : { if_match });
  }

  /** Sets another password; every other log-in of the account ends. */
  async change_password(proof: Proof, password: string): Promise<void> {
    const { password: current_password, ...code } = proof;
    await this.http.put("/v1/me/password", { current_password, password, ...code }, { tries: 1 });
  }

  /** Deletes the account for good and forgets the session. */
  async delete(proof: Proof): Promise<void> {
    await this.http.delete("/v1/me", { body: proof });
    this.tokens.drop("deleted");
  }
}
