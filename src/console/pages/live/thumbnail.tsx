/** A picture of a broadcast, or our own drawing while there is none. */

import { useState } from "preact/hooks";
import { Icon } from "../../parts/icon";
import { own_origin } from "./stream";

export function Thumbnail({ address }: { address: string | undefined }) {
  const [broken, set_broken] = useState<string | null>(null);
  return (
    <span class="thumbnail">
      {address && address !== broken ? <img src={own_origin(address)} alt="" loading="lazy" onError={() => set_broken(address)} /> : <Icon name="live" />}
    </span>
  );
}
