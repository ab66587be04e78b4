/** What travels over REST, noun by noun. Times are RFC 3339 in UTC, ids are opaque text with a prefix (`user_01j…`). */

/** An account as everybody sees it. */
export interface User {
  id: string;
  username: string;
  display_name: string;
  bio: string;
  created_at: string;
}

/** An account with its numbers, and how it stands to the caller. */
export interface Profile extends User {
  followers: number;
  following: number;
  posts: number;
  relation: { following: boolean; followed_by: boolean; muted: boolean; blocked: boolean };
}

/** One's own account. */
export interface Me extends User {
  email: string;
  totp_enabled: boolean;
  roles: string[];
  updated_at: string;
}

/** The answer to a sign-up, a log-in and a renewal. */
export interface SignedIn {
  user: Me;
  device_id: string;
  access_token: string;
  refresh_token: string;
  /** Seconds until the access token ends. */
  expires_in: number;
}

/** One log-in that is still good. */
export interface Device {
  device_id: string;
  name: string;
  platform: string;
  /** This very log-in. */
  current: boolean;
  /** The network it was last seen in (`192.0.2.0/24`); whole addresses are not kept. */
  network?: string;
  created_at: string;
  last_seen_at: string;
}

export interface NewAccount {
  username: string;
  email: string;
  password: string;
  display_name?: string;
  device?: DeviceName;
}

export interface Credentials {
  /** Username or e-mail address. */
  login: string;
  password: string;
  /** A code of the authenticator, or one of the recovery codes. */
  totp_code?: string;
  device?: DeviceName;
}

export interface DeviceName {
  name: string;
  platform: string;
}

/** Proof that it is the person who asks, and not just their device. */
export interface Proof {
  password: string;
  /** A code of the authenticator or a recovery code; needed when log-in asks for one. */
  totp_code?: string;
}

export interface ProfileChange {
  display_name?: string;
  bio?: string;
}

export interface TotpSecret {
  secret: string;
  otpauth_url: string;
}
