import type { ComponentChildren } from "preact";
import { take, type Device, type Me } from "../client";
import { Icon, type IconName } from "../parts/icon";
import { Page } from "../parts/page";
import { useResource } from "../parts/resource";
import { Failed, Loading } from "../parts/states";
import { words_of } from "../parts/words";
import { to } from "../shell/router";
import { nova } from "../shell/session";

/** What `GET /readyz` tells. */
interface Readiness {
  status: "ready" | "degraded" | "unavailable" | "draining" | (string & {});
  dependencies: { name: string; kind: string; up: boolean; problem?: string }[];
}

/** More log-ins than this are "many". */
const DEVICES_COUNTED = 100;

interface Seen {
  me: Me;
  devices: Device[];
  readiness: Readiness | null;
}

async function look(): Promise<Seen> {
  const [me, devices, readiness] = await Promise.all([
    nova.accounts.me(),
    take(nova.sessions.devices(), DEVICES_COUNTED),
    // An engine that is not ready says so with a 503: that is an answer, not a failure of this page.
    fetch("/readyz", { cache: "no-store" })
      .then((response) => response.json() as Promise<Readiness>)
      .catch(() => null),
  ]);
  return { me: me.data, devices, readiness };
}

/** The state of one's account and of the engine, at a glance. */
export function Overview() {
  const seen = useResource(look);
  if (!seen.data) {
    return (
      <Page title="Overview">
        {seen.error ? (
          <Failed title="Your account could not be read" words={words_of(seen.error)} action={{ label: "Try again", run: seen.reload }} />
        ) : (
          <Loading what="Reading your account" />
        )}
      </Page>
    );
  }
  const { me, devices, readiness } = seen.data;
  const count = devices.length;
  return (
    <Page title={`Hello, ${me.display_name}`} lead="Your account and this engine at a glance.">
      <div class="cards">
        <Card icon="person" title="Profile" href="/profile" action="Edit your profile">
          <p>
            People know you as <strong>@{me.username}</strong>.
          </p>
          <p class="soft">{me.bio ? me.bio : "You have written nothing about yourself yet."}</p>
        </Card>
        <Card icon="shield" title="Two-factor log-in" href="/security" action={me.totp_enabled ? "Manage it" : "Set it up"}>
          <p>
            <span class={me.totp_enabled ? "badge good" : "badge"}>{me.totp_enabled ? "On" : "Off"}</span>
          </p>
          <p class="soft">
            {me.totp_enabled
              ? "A password alone does not open your account."
              : "Whoever learns your password can log in as you. A second factor prevents that."}
          </p>
        </Card>
        <Card icon="devices" title="Devices" href="/devices" action="See them">
          <p>
            You are logged in on <strong>{count >= DEVICES_COUNTED ? "many devices" : count === 1 ? "this device only" : `${count} devices`}</strong>.
          </p>
          <p class="soft">Log out those you do not use any more.</p>
        </Card>
        <EngineCard readiness={readiness} />
      </div>
    </Page>
  );
}

function EngineCard({ readiness }: { readiness: Readiness | null }) {
  const status = readiness?.status ?? "unknown";
  const down = readiness?.dependencies?.filter((one) => !one.up).map((one) => one.name) ?? [];
  return (
    <section class="card">
      <h2>
        <Icon name="check" />
        Engine
      </h2>
      <p>
        <span class={status === "ready" ? "badge good" : "badge warn"}>{status.charAt(0).toUpperCase() + status.slice(1)}</span>
      </p>
      <p class="soft">
        {status === "ready"
          ? "Everything it rests on answers."
          : down.length > 0
            ? `Not answering: ${down.join(", ")}.`
            : "Its state could not be read just now."}
      </p>
      <a class="more" href="/docs">
        Read its API <Icon name="arrow" />
      </a>
    </section>
  );
}

function Card({ icon, title, href, action, children }: { icon: IconName; title: string; href: string; action: string; children: ComponentChildren }) {
  return (
    <section class="card">
      <h2>
        <Icon name={icon} />
        {title}
      </h2>
      {children}
      <a class="more" href={to(href)}>
        {action} <Icon name="arrow" />
      </a>
    </section>
  );
}
