/** How to publish with a key that is shown now and never again. */

import type { Publishing } from "../../client";
import { CopyLine } from "../../parts/copy_line";
import { ffmpeg_words } from "../../parts/live_words";
import { Notice } from "../../parts/states";

export function HowToPublish({ publishing }: { publishing: Publishing }) {
  const { ingest_url, stream_key } = publishing;
  return (
    <>
      <Notice kind="warn">
        <p>
          <strong>The key is shown only now.</strong> Whoever has it can broadcast as you. If it gets lost or known, make a new one at the desk.
        </p>
      </Notice>
      <CopyLine id="ingest-url" label="Server" text={ingest_url} />
      <CopyLine id="stream-key" label="Stream key" text={stream_key} secret />
      <details class="how" open>
        <summary>OBS Studio</summary>
        <ol class="numbered">
          <li>
            Settings → Stream: choose the service <strong>Custom…</strong>, paste server and key.
          </li>
          <li>
            Settings → Output: <strong>Advanced</strong>, encoder x264 or your graphics card's, rate control CBR, keyframe interval <strong>1 s</strong> or 2 s.
          </li>
          <li>Start Streaming. The desk shows what arrives.</li>
        </ol>
      </details>
      <details class="how">
        <summary>FFmpeg</summary>
        <CopyLine id="ffmpeg-command" label="Broadcasts a file at its own pace" text={ffmpeg_words(ingest_url, stream_key)} secret />
      </details>
    </>
  );
}
