/** A line of text that is there to be taken elsewhere. */

import { useState } from "preact/hooks";
import { Icon } from "./icon";

interface CopyLineProps {
  id: string;
  label: string;
  text: string;
  /** Covered until somebody wants to see it: screens are often shared while one sets up a broadcast. */
  secret?: boolean;
}

export function CopyLine({ id, label, text, secret = false }: CopyLineProps) {
  const [shown, set_shown] = useState(!secret);
  const [copied, set_copied] = useState<boolean | null>(null);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      set_copied(true);
    } catch {
      // Not on HTTPS, or not allowed: it can still be selected by hand.
      set_shown(true);
      set_copied(false);
    }
  };
  return (
    <div class="copy-line">
      <span class="label" id={`${id}-label`}>
        {label}
      </span>
      <div>
        <code id={id} aria-labelledby={`${id}-label`} data-text={text}>
          {shown ? text : "•".repeat(24)}
        </code>
        {secret && (
          <button type="button" class="quiet" aria-pressed={shown} aria-label={`Show: ${label}`} onClick={() => set_shown(!shown)}>
            <Icon name="eye" />
          </button>
        )}
        <button type="button" class="quiet" aria-label={`Copy: ${label}`} onClick={() => void copy()}>
          <Icon name={copied ? "check" : "copy"} />
        </button>
      </div>
      <span role="status" class={copied === false ? "wrong" : "done"}>
        {copied === true ? "Copied" : copied === false ? "Copying is not allowed here: select it by hand." : ""}
      </span>
    </div>
  );
}
