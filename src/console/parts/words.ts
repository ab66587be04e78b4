/** Errors, times and devices in words. */

import { NovaError, Problem, Unreachable } from "../client";

/** What happened and what to do, in a sentence or two. */
export function words_of(error: unknown): string {
  if (error instanceof Unreachable) {
    return "The engine cannot be reached. Check your connection, then try again; nothing you typed is lost.";
  }
  if (error instanceof Problem) {
    switch (error.code) {
      case "invalid_credentials":
        return "That is not the right password. Check it, and the name if you typed one, and whether Caps Lock is on.";
      case "invalid_totp_code":
        return "That code is wrong or was used already. Wait for the next one and type it in, or use a recovery code.";
      case "rate_limited":
        return `Too many tries. Wait ${wait_words(error.retry_after_ms)}, then try again.`;
      case "overloaded":
      case "unavailable":
      case "draining":
        return `The engine is busy. Wait ${wait_words(error.retry_after_ms)}, then try again.`;
      case "internal":
        return `Something broke in the engine. Try again; if it stays, tell whoever runs it this number: ${error.request_id ?? "none was given"}.`;
      case "unexpected_answer":
        return `Something between you and the engine answered ${error.status}. Check the address and any proxy in between.`;
      default:
        return sentence(error.detail);
    }
  }
  if (error instanceof NovaError) return sentence(error.message);
  return "Something broke in this page. Reload it and try again.";
}

function wait_words(retry_after_ms: number | null): string {
  if (retry_after_ms === null) return "a moment";
  const seconds = Math.max(1, Math.ceil(retry_after_ms / 1000));
  if (seconds < 90) return seconds === 1 ? "a second" : `${seconds} seconds`;
  return `${Math.ceil(seconds / 60)} minutes`;
}

/** Capital at the start, full stop at the end. */
export function sentence(text: string): string {
  const trimmed = text.trim();
  if (trimmed === "") return "";
  const start = trimmed.charAt(0).toUpperCase() + trimmed.slice(1);
  return /[.!?…]$/.test(start) ? start : `${start}.`;
}

const STEPS: [Intl.RelativeTimeFormatUnit, number][] = [
  ["year", 31_536_000],
  ["month", 2_592_000],
  ["week", 604_800],
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
];

/** "5 minutes ago", as people say it; a clock that runs a little ahead says "just now". */
export function ago(at: string, now_ms = Date.now()): string {
  const seconds = (now_ms - Date.parse(at)) / 1000;
  if (Number.isNaN(seconds)) return "at an unknown time";
  for (const [unit, length] of STEPS) {
    if (seconds >= length) {
      return new Intl.RelativeTimeFormat("en", { numeric: "auto" }).format(-Math.floor(seconds / length), unit);
    }
  }
  return "just now";
}

/** "21 November 2026". */
export function day(at: string): string {
  const date = new Date(at);
  if (Number.isNaN(date.getTime())) return "an unknown day";
  return date.toLocaleDateString("en-GB", { day: "numeric", month: "long", year: "numeric" });
}

const BROWSERS: [RegExp, string][] = [
  [/\bEdgA?\//, "Edge"],
  [/\bOPR\//, "Opera"],
  [/\b(Firefox|FxiOS)\//, "Firefox"],
  [/\bSamsungBrowser\//, "Samsung Internet"],
  [/\b(Chrome|CriOS|HeadlessChrome)\//, "Chrome"],
  [/\bSafari\//, "Safari"],
];
const SYSTEMS: [RegExp, string][] = [
  [/\biPhone\b/, "iPhone"],
  [/\biPad\b/, "iPad"],
  [/\bAndroid\b/, "Android"],
  [/\bCrOS\b/, "ChromeOS"],
  [/\bWindows\b/, "Windows"],
  [/\bMac OS X\b/, "macOS"],
  [/\bLinux\b/, "Linux"],
];

/** What to call this browser in a list of devices: "Firefox on Windows". */
export function device_name(user_agent: string): string {
  const of = (table: [RegExp, string][]) => table.find(([pattern]) => pattern.test(user_agent))?.[1];
  const browser = of(BROWSERS) ?? "Browser";
  const system = of(SYSTEMS);
  return system ? `${browser} on ${system}` : browser;
}
