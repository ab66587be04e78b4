/** `/docs`: the API as it describes itself, without the internet. Reads `/openapi.json` and, where there is one, `/asyncapi.json`. */

import { render } from "preact";
import { useEffect, useMemo, useState } from "preact/hooks";
import { CallCard } from "./docs/call";
import { found_in, groups_of, messages_of, type AsyncApi, type OpenApi } from "./docs/openapi";
import { Prose } from "./docs/prose";
import { Shape } from "./docs/shape";
import { Mark } from "./parts/icon";
import { useResource } from "./parts/resource";
import { Failed, Loading } from "./parts/states";
import { ThemeSwitch } from "./parts/theme_switch";
import "./style/docs.css";

interface ErrorCode {
  code: string;
  status: number;
  title: string;
}

interface Documents {
  rest: OpenApi;
  socket: AsyncApi | null;
  errors: ErrorCode[];
}

async function fetch_json<T>(address: string): Promise<T> {
  const response = await fetch(address);
  if (!response.ok) throw new Error(`${address} was answered with ${response.status}`);
  return (await response.json()) as T;
}

async function read_all(): Promise<Documents> {
  const [rest, socket, errors] = await Promise.all([
    fetch_json<OpenApi>("/openapi.json"),
    fetch_json<AsyncApi>("/asyncapi.json").catch(() => null),
    fetch_json<{ items: ErrorCode[] }>("/docs/errors.json").catch(() => ({ items: [] })),
  ]);
  return { rest, socket, errors: errors.items };
}

function Docs() {
  const documents = useResource(read_all);
  const [words, set_words] = useState("");
  const data = documents.data;
  const groups = useMemo(() => (data ? groups_of(data.rest) : []), [data]);
  const messages = useMemo(() => (data?.socket ? messages_of(data.socket) : []), [data]);
  const shown = useMemo(
    () =>
      groups
        .map((group) => ({ ...group, calls: group.calls.filter((call) => found_in(call, words)) }))
        .filter((group) => group.calls.length > 0),
    [groups, words],
  );
  useEffect(() => {
    if (!data) return;
    open_target();
    addEventListener("hashchange", open_target);
    return () => removeEventListener("hashchange", open_target);
  }, [data]);

  return (
    <>
      <a class="skip" href="#content">
        Skip to the content
      </a>
      <div class="docs">
        <header>
          <a class="brand" href="/console/">
            <Mark />
            <span>Nova API</span>
          </a>
          <label class="unseen" for="search">
            Find a call
          </label>
          <input
            id="search"
            type="search"
            placeholder="Find a call"
            autocomplete="off"
            value={words}
            onInput={(event) => set_words(event.currentTarget.value)}
          />
          <nav aria-label="Contents">
            {shown.map((group) => (
              <details key={group.name} open={words !== "" || undefined}>
                <summary>{group.name}</summary>
                <ul>
                  {group.calls.map((call) => (
                    <li key={call.id}>
                      <a href={`/docs#${call.id}`} title={call.operation.summary}>
                        <span class={`method ${call.method.toLowerCase()}`}>{call.method}</span> {call.path}
                      </a>
                    </li>
                  ))}
                </ul>
              </details>
            ))}
            {messages.length > 0 && <a href="/docs#websocket">WebSocket</a>}
            {(data?.errors.length ?? 0) > 0 && <a href="/docs#errors">Errors</a>}
          </nav>
          <ThemeSwitch />
        </header>
        <main id="content" tabIndex={-1}>
          {!data && documents.error !== null && (
            <>
              <h1>Nova API</h1>
              <Failed
                title="The description of the API could not be read"
                words="The engine did not answer. Check that it runs, then try again."
                action={{ label: "Try again", run: documents.reload }}
              />
            </>
          )}
          {!data && documents.loading && <Loading what="Reading the description of the API" />}
          {data && (
            <>
              <div class="head">
                <h1>{data.rest.info.title}</h1>
                <p class="soft">
                  Version {data.rest.info.version} · <a href="/openapi.json">openapi.json</a>
                  {data.socket && (
                    <>
                      {" "}
                      · <a href="/asyncapi.json">asyncapi.json</a>
                    </>
                  )}
                </p>
                <Prose text={data.rest.info.description} />
              </div>
              <p class="unseen" role="status">
                {words && `${shown.reduce((sum, group) => sum + group.calls.length, 0)} calls found`}
              </p>
              {shown.length === 0 && words !== "" && <p class="soft">No call has to do with “{words}”.</p>}
              {shown.map((group) => (
                <section key={group.name} id={`tag-${group.name}`}>
                  <h2>{group.name}</h2>
                  <Prose text={group.description} />
                  {group.calls.map((call) => (
                    <CallCard key={call.id} document={data.rest} call={call} />
                  ))}
                </section>
              ))}
              {data.socket && messages.length > 0 && (
                <section id="websocket">
                  <h2>WebSocket</h2>
                  <Prose text={data.socket.info.description} />
                  {messages.map((message) => (
                    <details class="call" id={message.id} key={message.id}>
                      <summary>
                        <span class={message.from === "client" ? "method post" : "method get"}>{message.from === "client" ? "SEND" : "HEAR"}</span>
                        <code class="path">{message.name}</code>
                        <span class="summary">{message.words}</span>
                      </summary>
                      <div class="inside">
                        <Shape document={data.socket} schema={message.payload} />
                        {message.replies.map((reply) => (
                          <div key={reply.name}>
                            <h4>Answered with {reply.name}</h4>
                            <Shape document={data.socket} schema={reply.payload} />
                          </div>
                        ))}
                      </div>
                    </details>
                  ))}
                </section>
              )}
              {data.errors.length > 0 && (
                <section id="errors">
                  <h2>Errors</h2>
                  <p class="soft">
                    Every refusal is <code>application/problem+json</code> (RFC 9457). Branch on its <code>code</code>.
                  </p>
                  <ul class="answers">
                    {data.errors.map((error) => (
                      <li key={error.code} id={error.code}>
                        <span class="status bad">{error.status}</span>
                        <p>
                          <code>{error.code}</code> <span class="soft">{error.title}</span>
                        </p>
                      </li>
                    ))}
                  </ul>
                </section>
              )}
            </>
          )}
        </main>
      </div>
    </>
  );
}

/** Opens what the address points at, and goes there: the browser was there before the page was. */
function open_target(): void {
  const wanted = location.hash.slice(1) || (location.pathname === "/docs/errors" ? "errors" : "");
  const target = document.getElementById(wanted);
  if (!target) return;
  if (target instanceof HTMLDetailsElement) {
    target.open = true;
    target.querySelector("summary")?.focus({ preventScroll: true });
  }
  target.scrollIntoView();
}

const root = document.getElementById("app");
if (root) render(<Docs />, root);
