/** Says things to people who do not see the page change. */

import { useEffect, useState } from "preact/hooks";

const SAID = "nova:said";

/** Reads `words` out once whatever is being read is done. */
export function say(words: string): void {
  dispatchEvent(new CustomEvent(SAID, { detail: words }));
}

/** The place assistive technology listens to; there is one, in the shell. */
export function Announcer() {
  const [words, set] = useState("");
  useEffect(() => {
    const heard = (event: Event) => set((event as CustomEvent<string>).detail);
    addEventListener(SAID, heard);
    return () => removeEventListener(SAID, heard);
  }, []);
  return (
    <p class="unseen" role="status" aria-live="polite">
      {words}
    </p>
  );
}
