import { useState } from "preact/hooks";
import type { Device } from "../client";
import { say } from "../parts/announce";
import { Dialog } from "../parts/dialog";
import { Form, useSubmission } from "../parts/form";
import { Icon } from "../parts/icon";
import { Page } from "../parts/page";
import { useResource } from "../parts/resource";
import { Failed, Loading, Notice } from "../parts/states";
import { ago, day, words_of } from "../parts/words";
import { leave, nova } from "../shell/session";

/** Every place where somebody is logged in to this account. */
export function Devices() {
  const list = useResource(async () => {
    const devices: Device[] = [];
    for await (const device of nova.sessions.devices()) devices.push(device);
    // This one first, then by when they were last seen.
    return devices.sort((a, b) => Number(b.current) - Number(a.current) || b.last_seen_at.localeCompare(a.last_seen_at));
  });
  const [leaving, set_leaving] = useState<Device | null>(null);

  const revoked = (device: Device) => {
    set_leaving(null);
    list.put((list.data ?? []).filter((one) => one.device_id !== device.device_id));
    say(`${device.name} is logged out.`);
    document.querySelector<HTMLElement>("h1")?.focus();
  };
  return (
    <Page title="Devices" lead="Where your account is logged in. Log out what you do not know or no longer use.">
      {list.error !== null && (
        <Failed title="The list could not be read" words={words_of(list.error)} action={{ label: "Try again", run: list.reload }} />
      )}
      {!list.data && list.loading && <Loading what="Reading the list" />}
      {list.data && (
        <ul class="rows">
          {list.data.map((device) => (
            <li key={device.device_id} class="row" data-device={device.device_id}>
              <Icon name={/iPhone|iPad|Android/.test(device.name) || ["ios", "android"].includes(device.platform) ? "phone" : "laptop"} />
              <div class="text">
                <p class="name">
                  {device.name} {device.current && <span class="badge good">This device</span>}
                </p>
                <p class="soft">
                  {device.current ? "In use now" : `Last seen ${ago(device.last_seen_at)}`} · logged in on {day(device.created_at)}
                  {device.network && ` · ${device.network}`}
                </p>
              </div>
              {device.current ? (
                <button type="button" onClick={() => void leave()}>
                  Log out
                </button>
              ) : (
                <button type="button" aria-label={`Log out ${device.name}`} onClick={() => set_leaving(device)}>
                  Log out
                </button>
              )}
            </li>
          ))}
        </ul>
      )}
      {list.data?.length === 1 && (
        <Notice kind="info">
          <p>You are logged in nowhere else.</p>
        </Notice>
      )}
      {leaving && <Leaving device={leaving} on_done={() => revoked(leaving)} on_close={() => set_leaving(null)} />}
    </Page>
  );
}

function Leaving({ device, on_done, on_close }: { device: Device; on_done(): void; on_close(): void }) {
  const submission = useSubmission();
  return (
    <Dialog title={`Log out ${device.name}?`} on_close={on_close}>
      <p>Its connections end now, and it has to log in again to come back. Nothing is deleted.</p>
      <Form
        submission={submission}
        fields={[]}
        action="Log it out"
        acting="Logging out…"
        danger
        on_submit={async () => {
          await nova.sessions.revoke(device.device_id);
          on_done();
        }}
        extra={
          <button type="button" onClick={on_close}>
            Keep it
          </button>
        }
      >
        {null}
      </Form>
    </Dialog>
  );
}
