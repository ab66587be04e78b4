/** A fresh random name, 128 bits in hexadecimal: for idempotency keys and message ids. Works on plain HTTP too. */
export function fresh_id(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
