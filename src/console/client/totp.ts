/** Two-factor authentication with an authenticator app (RFC 6238). */

import type { Http } from "./http";
import type { TotpSecret } from "./types";

export class Totp {
  constructor(private readonly http: Http) {}

  /** A new secret for the authenticator; nothing is asked for until {@link confirm}. */
  async begin(): Promise<TotpSecret> {
    return (await this.http.post<TotpSecret>("/v1/totp")).data;
  }

  /** Switches it on with a first right code. The recovery codes are told this once. */
  async confirm(code: string): Promise<string[]> {
    return (await this.http.post<{ recovery_codes: string[] }>("/v1/totp/confirm", { code })).data.recovery_codes;
  }

  /** Switches it off; a code of the authenticator or a recovery code proves who asks. */
  async disable(code: string): Promise<void> {
    await this.http.delete("/v1/totp", { body: { code } });
  }
}
