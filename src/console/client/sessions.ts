/** Log-ins: this one and those on other devices. */

import type { Http, RequestOptions } from "./http";
import { walk, type Page } from "./paging";
import { Problem, Unreachable } from "./problem";
import type { Tokens } from "./tokens";
import type { Credentials, Device, SignedIn } from "./types";

export class Sessions {
  constructor(
    private readonly http: Http,
    private readonly tokens: Tokens,
  ) {}

  /**
   * Logs in. Problems: `invalid_credentials`; `totp_required` when the account wants a code as well: ask for it and
   * call again with `totp_code`; `invalid_totp_code`.
   */
  async log_in(credentials: Credentials, options?: RequestOptions): Promise<SignedIn> {
    const { data } = await this.http.post<SignedIn>("/v1/sessions", credentials, { ...options, anonymous: true });
    this.tokens.adopt(data);
    return data;
  }

  /**
   * Ends this log-in and forgets it here whatever happens. False when the engine could not be told: the log-in then
   * stays in the list of devices until it ends there.
   */
  async log_out(): Promise<boolean> {
    try {
      await this.http.delete("/v1/sessions/current", { tries: 2, timeout_ms: 5_000 });
      return true;
    } catch (error) {
      if (error instanceof Problem) return error.status === 401;
      if (error instanceof Unreachable) return false;
      throw error;
    } finally {
      this.tokens.drop("logged_out");
    }
  }

  /** Every log-in that is still good. */
  devices(): AsyncGenerator<Device, void> {
    return walk(async (cursor) => (await this.http.get<Page<Device>>("/v1/sessions", { query: { cursor } })).data);
  }

  /** Ends the log-in of one device and closes its sockets; it is logged out at its next renewal at the latest. */
  async revoke(device_id: string): Promise<void> {
    await this.http.delete(`/v1/sessions/${encodeURIComponent(device_id)}`);
  }
}
