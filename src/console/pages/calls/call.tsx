/** A call: who is there, their faces and voices, and what one can do. */

import { useEffect, useLayoutEffect, useRef, useState } from "preact/hooks";
import type { Call, CallGuest, Quality } from "../../client";
import { say } from "../../parts/announce";
import { Dialog } from "../../parts/dialog";
import { Icon, type IconName } from "../../parts/icon";
import { Page } from "../../parts/page";
import { Failed, Loading } from "../../parts/states";
import { words_of } from "../../parts/words";
import { the_socket, useRings } from "../../shell/live";
import { go, usePlace } from "../../shell/router";
import type { PageProps } from "../../shell/routes";
import { nova } from "../../shell/session";
import { GoLive, OnAir } from "./streaming";
import { Talk, useTalk, Waves } from "./talk";
import { Mine, Screen, Tile, Voice } from "./tiles";

const ENDINGS: Record<string, string> = {
  left: "You have left the call.",
  removed: "The host took you out of the call.",
  deleted: "The host ended the call.",
  replaced: "You joined again from another window.",
  silent: "The connection was lost.",
  no_path: "Sound and pictures found no way to the engine: a firewall between may let no UDP through.",
  no_keys: "The engine and this browser could not agree on keys.",
  fault: "Something went wrong in the engine, and your part of the call has ended. Join again.",
  expired: "The connection was away for too long.",
  failed: "The call could not be joined.",
  media: "The call could not be joined.",
  ended: "The call is over.",
  refused: "The host did not let you in.",
  not_a_member: "This call is for the members of its conversation.",
  blocked: "Who made this room cannot be reached by you any more.",
  not_found: "There is no such call, or it has ended.",
  room_full: "The room is full.",
  room_locked: "The host lets nobody in any more.",
};

/** What became of a call that was never answered. */
const OUTCOMES: Record<string, string> = {
  missed: "Nobody answered.",
  declined: "The call was declined.",
  cancelled: "The call was cancelled.",
};

export function CallPage({ params }: PageProps) {
  const room = params.room ?? "";
  const [call, set_call] = useState<Call | null>(null);
  const [error, set_error] = useState<unknown>(null);
  const [, again] = useState(0);
  const rings = useRings();
  const news = rings.in_room(room);
  const here = useRef(true);
  // Who called or answered has said already that they come, and how.
  const { query } = usePlace();
  const asked = query.get("join");

  const enter = async (how = asked) => {
    set_error(null);
    try {
      const { data: me } = await nova.accounts.me();
      const local = await devices(how !== "audio");
      // People think about the browser's question: meanwhile they may have gone elsewhere, or the call may be over.
      if (!here.current || rings.in_room(room)?.state === "ended") {
        for (const track of local.getTracks()) track.stop();
        return;
      }
      const made = nova.calls.call(the_socket(), room, { relay_only: query.has("relay") });
      made.watch(() => again((before) => before + 1));
      set_call(made);
      await made.join(local, me.display_name.slice(0, 64));
    } catch (reason) {
      set_error(reason);
    }
  };
  useEffect(() => {
    if (asked !== null) void enter(asked);
    return () => {
      here.current = false;
    };
  }, []);
  useEffect(() => {
    if (!call) return;
    const leaving = () => void call.leave();
    addEventListener("pagehide", leaving);
    return () => {
      removeEventListener("pagehide", leaving);
      leaving();
    };
  }, [call]);

  // A call may be over before one is in it; then that is what there is to say, not that it could not be joined.
  const over = news?.state === "ended" && call?.state.name !== "in";
  if (over || (error === null && call?.state.name === "ended")) {
    const reason = call?.state.name === "ended" && error === null ? call.state.reason : "ended";
    return (
      <Page title="Call" lead={(news?.outcome && OUTCOMES[news.outcome]) ?? ENDINGS[reason] ?? "The call has ended."}>
        <div class="actions">
          {news?.state !== "ended" && (
            <button type="button" class="primary" onClick={() => void enter()}>
              Join again
            </button>
          )}
          {news ? (
            <button type="button" onClick={() => go(`/chat/${news.conversation}`)}>
              To the conversation
            </button>
          ) : (
            <button type="button" onClick={() => go("/calls")}>
              Other calls
            </button>
          )}
        </div>
      </Page>
    );
  }
  if (error !== null) {
    return (
      <Page title="Call">
        <Failed title="The call could not be joined" words={media_words(error)} action={{ label: "Try again", run: () => void enter() }} />
      </Page>
    );
  }
  if (!call || call.state.name === "idle") {
    if (asked !== null) return <Page title="Call">{<Loading what="Joining" />}</Page>;
    return (
      <Page title="Call" lead="Your browser will ask for your camera and microphone.">
        <div class="actions">
          <button type="button" class="primary" onClick={() => void enter()}>
            Join now
          </button>
        </div>
      </Page>
    );
  }
  if (call.state.name === "waiting") {
    return (
      <Page title="Call" lead="The host is asked to let you in.">
        <Loading what="Waiting" />
        <div class="actions">
          <button type="button" onClick={() => void call.leave()}>
            Do not wait
          </button>
        </div>
      </Page>
    );
  }
  return (
    <Page title={call.title ?? "Call"}>
      {news?.state === "ringing" && (
        <p class="soft" role="status">
          Ringing…
        </p>
      )}
      {call.state.name === "joining" ? <Loading what="Joining" /> : <Stage call={call} />}
    </Page>
  );
}

/** Camera and microphone; without a camera, or where none is wanted, the microphone alone. */
async function devices(camera: boolean): Promise<MediaStream> {
  const audio = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  if (!camera) return navigator.mediaDevices.getUserMedia({ audio });
  try {
    return await navigator.mediaDevices.getUserMedia({ audio, video: { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } } });
  } catch (error) {
    if (error instanceof DOMException && error.name === "NotFoundError") return navigator.mediaDevices.getUserMedia({ audio });
    throw error;
  }
}

function media_words(error: unknown): string {
  if (error instanceof DOMException) {
    if (error.name === "NotAllowedError") return "The browser was not allowed to use your camera and microphone. Allow it beside the address, then try again.";
    if (error.name === "NotFoundError") return "No microphone was found.";
    if (error.name === "NotReadableError") return "Another program uses your camera or microphone.";
  }
  return words_of(error);
}

function Stage({ call }: { call: Call }) {
  const people = [...call.participants.values()];
  const others = people.filter((one) => one.participant !== call.me);
  const me = call.participants.get(call.me ?? -1);
  const microphone = call.mine("microphone");
  const camera = call.mine("camera");
  const screens = [...call.tracks.values()].filter((track) => track.source === "screen" && track.participant !== call.me);
  const host = me?.role === "host";
  const grid = useRef<HTMLDivElement>(null);
  const [choosing, set_choosing] = useState(false);
  const [going_live, set_going_live] = useState(false);
  const quality = useQuality(call);
  const talk = useTalk(call);
  const [shown, show] = useState<"talk" | "waves" | null>(null);
  const toggle = (what: "talk" | "waves") => async () => show(shown === what ? null : what);

  // Whoever spoke last is large; a screen is larger than faces.
  const spoke = useRef<number | null>(null);
  const speaker = call.speakers.find((one) => one !== call.me);
  if (speaker !== undefined) spoke.current = speaker;
  const count = others.length + 1 + screens.length;
  const staged = screens.length > 0 || count > STAGE_FROM;
  const first = screens.length > 0 ? null : (others.find((one) => one.participant === spoke.current) ?? others[0]);
  const rest = staged && first ? others.filter((one) => one !== first) : others;

  // What is small on the screen comes small over the net.
  useLayoutEffect(() => {
    const look = () => {
      const tiles = [...(grid.current?.querySelectorAll<HTMLElement>("[data-track]") ?? [])];
      const want = tiles.map((tile) => ({
        track: Number(tile.dataset.track),
        height: Math.min(2160, Math.round((tile.clientHeight * devicePixelRatio) / 10) * 10),
        // Where the net does not carry all, whoever spoke last is seen best.
        priority: Number(tile.dataset.participant === String(spoke.current)),
      }));
      void call.view(want).catch(() => {});
    };
    look();
    addEventListener("resize", look);
    return () => removeEventListener("resize", look);
  });

  const faces = rest.map((person) => <Tile call={call} person={person} wave={talk.waves.get(person.participant)} key={person.participant} />);
  const mine = <Mine call={call} name={me?.name ?? "You"} hand={me?.hand ?? false} wave={talk.waves.get(call.me ?? -1)} />;
  return (
    <div class="group-call" data-state={call.state.name}>
      {call.state.name === "reconnecting" && (
        <p class="banner" role="status">
          The connection was lost; reconnecting…
        </p>
      )}
      <OnAir call={call} />
      {host && call.waiting.map((guest) => <Guest call={call} guest={guest} key={guest.user} />)}
      <div class={staged ? "tiles staged" : "tiles"} ref={grid} data-count={count}>
        {staged ? (
          <>
            <div class="large">
              {screens.map((track) => (
                <Screen call={call} track={track} key={track.track} />
              ))}
              {first && <Tile call={call} person={first} wave={talk.waves.get(first.participant)} key={first.participant} />}
            </div>
            <div class="strip">
              {faces}
              {mine}
            </div>
          </>
        ) : (
          <>
            {faces}
            {mine}
          </>
        )}
      </div>
      {call.voices().map((voice) => (
        <Voice track={voice} key={voice.id} />
      ))}
      <div class="below">
        {shown === "talk" && <Talk call={call} talk={talk} />}
        {shown === "waves" && <Waves talk={talk} />}
        <div class="controls" role="toolbar" aria-label="Call">
          <Control
            icon={microphone?.muted ? "mic_off" : "mic"}
            label={microphone?.muted ? "Unmute" : "Mute"}
            off={microphone?.muted ?? true}
            run={() => call.mute("microphone", !(microphone?.muted ?? true))}
            disabled={!microphone}
          />
          <Control
            icon={camera && !camera.muted ? "camera" : "camera_off"}
            label={camera && !camera.muted ? "Camera off" : "Camera on"}
            off={camera?.muted ?? true}
            run={() => (camera ? call.mute("camera", !camera.muted) : call.use_device("camera"))}
            disabled={me?.role === "listener"}
          />
          {"getDisplayMedia" in (navigator.mediaDevices ?? {}) && (
            <Control icon="laptop" label={call.screen ? "Stop sharing" : "Share screen"} run={() => call.share(!call.screen)} disabled={me?.role === "listener"} />
          )}
          <Control icon="hand" label={me?.hand ? "Lower hand" : "Raise hand"} run={() => call.raise_hand(!me?.hand)} />
          <Control icon="chat" label={talk.unread && shown !== "talk" ? `Messages (${talk.unread})` : "Messages"} run={toggle("talk")} />
          <Control icon="smile" label="React" run={toggle("waves")} />
          <Control icon="devices" label="Devices" run={async () => set_choosing(true)} />
          {host && <Control icon="lock" label={call.locked ? "Unlock room" : "Lock room"} run={() => call.lock(!call.locked)} />}
          {host && <Control icon="people" label={call.lobby ? "Open doors" : "Ask first"} run={() => call.set_lobby(!call.lobby)} />}
          {host && <Control icon="live" label={call.streaming ? "End live" : "Go live"} run={async () => (call.streaming ? call.unstream() : set_going_live(true))} />}
          <Control icon="copy" label="Copy address" run={() => copy()} />
          <Control icon="leave" label="Leave" run={() => call.leave()} danger />
        </div>
      </div>
      {quality && (
        <p class="soft quality" data-quality={quality} role="status">
          {QUALITIES[quality]}
        </p>
      )}
      {going_live && <GoLive call={call} on_close={() => set_going_live(false)} />}
      {choosing && <Devices call={call} on_close={() => set_choosing(false)} />}
    </div>
  );
}

/** With more tiles than this, one is large. */
const STAGE_FROM = 3;
const QUALITY_EVERY_MS = 3_000;
const QUALITIES: Record<Quality, string> = {
  good: "Good connection",
  fair: "Fair connection: pictures may be less sharp",
  poor: "Poor connection: switch your camera off if voices break up",
};

function useQuality(call: Call): Quality | null {
  const [quality, set] = useState<Quality | null>(null);
  useEffect(() => {
    const timer = setInterval(() => void call.quality().then(set, () => {}), QUALITY_EVERY_MS);
    return () => clearInterval(timer);
  }, [call]);
  return quality;
}

/** Somebody waits before the door. */
function Guest({ call, guest }: { call: Call; guest: CallGuest }) {
  const answer = (yes: boolean) => void call.admit(guest.user, yes).catch((error) => say(words_of(error)));
  return (
    <p class="banner guest" role="status">
      <span>{guest.name ?? "Somebody"} wants to come in.</span>
      <button type="button" class="primary" onClick={() => answer(true)}>
        Let in
      </button>
      <button type="button" onClick={() => answer(false)}>
        Refuse
      </button>
    </p>
  );
}

/** Which microphone and camera are used. */
function Devices({ call, on_close }: { call: Call; on_close(): void }) {
  const [found, set_found] = useState<MediaDeviceInfo[]>([]);
  useEffect(() => {
    const look = () => void navigator.mediaDevices.enumerateDevices().then(set_found, () => {});
    look();
    navigator.mediaDevices.addEventListener("devicechange", look);
    return () => navigator.mediaDevices.removeEventListener("devicechange", look);
  }, []);
  const choice = (kind: "microphone" | "camera") => {
    const devices = found.filter((one) => one.kind === (kind === "microphone" ? "audioinput" : "videoinput"));
    const [track] = (kind === "microphone" ? call.local?.getAudioTracks() : call.local?.getVideoTracks()) ?? [];
    return (
      <div class="field">
        <label for={`choose-${kind}`}>{kind === "microphone" ? "Microphone" : "Camera"}</label>
        <select
          id={`choose-${kind}`}
          value={track?.getSettings().deviceId ?? ""}
          onChange={(event) => void call.use_device(kind, event.currentTarget.value).catch((error) => say(media_words(error)))}
        >
          {!track && <option value="">None</option>}
          {devices.map((device, nth) => (
            <option value={device.deviceId} key={device.deviceId}>
              {device.label || `${kind === "microphone" ? "Microphone" : "Camera"} ${nth + 1}`}
            </option>
          ))}
        </select>
      </div>
    );
  };
  return (
    <Dialog title="Microphone and camera" on_close={on_close}>
      {choice("microphone")}
      {choice("camera")}
      <div class="actions">
        <button type="button" class="primary" onClick={on_close}>
          Done
        </button>
      </div>
    </Dialog>
  );
}

async function copy(): Promise<void> {
  await navigator.clipboard.writeText(location.href);
  say("The address is copied.");
}

function Control(props: { icon: IconName; label: string; run: () => Promise<void>; off?: boolean; danger?: boolean; disabled?: boolean }) {
  const run = async () => {
    try {
      await props.run();
    } catch (error) {
      // Whoever calls off the choice of a screen has chosen.
      if (!(error instanceof DOMException)) say(words_of(error));
    }
  };
  const kind = ["control", props.off && "off", props.danger && "danger"].filter(Boolean).join(" ");
  return (
    <button type="button" class={kind} disabled={props.disabled} onClick={() => void run()}>
      <Icon name={props.icon} />
      <span>{props.label}</span>
    </button>
  );
}
