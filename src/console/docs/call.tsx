/** One call: what it takes, what it answers, how to try it. */

import type { Call, MediaType, OpenApi } from "./openapi";
import { Prose } from "./prose";
import { limits, resolve, sample, type_words } from "./schema";
import { Shape } from "./shape";

export function CallCard({ document, call }: { document: OpenApi; call: Call }) {
  const { operation } = call;
  const body = resolve(document, operation.requestBody);
  return (
    <details class="call" id={call.id}>
      <summary>
        <span class={`method ${call.method.toLowerCase()}`}>{call.method}</span>
        <code class="path">{call.path}</code>
        <span class="summary">{operation.summary}</span>
      </summary>
      <div class="inside">
        {operation.deprecated && <p class="badge warn">Deprecated</p>}
        <Prose text={operation.description} />
        <p class="soft">{call.locked ? "Needs an access token." : "Needs no access token."}</p>
        {call.parameters.length > 0 && (
          <>
            <h4>Parameters</h4>
            <ul class="fields">
              {call.parameters.map((parameter) => (
                <li key={`${parameter.in} ${parameter.name}`}>
                  <p>
                    <code class="name">{parameter.name}</code> <span class="type">{type_words(document, parameter.schema)}</span>
                    <span class="soft">
                      {" "}
                      · in the {parameter.in}
                      {parameter.required ? "" : " · optional"}
                      {limits(resolve(document, parameter.schema) ?? {}).map((limit) => ` · ${limit}`)}
                    </span>
                  </p>
                  <Prose text={parameter.description} />
                </li>
              ))}
            </ul>
          </>
        )}
        {body && (
          <>
            <h4>Body{body.required ? "" : " (optional)"}</h4>
            <Prose text={body.description} />
            <Content document={document} content={body.content} />
          </>
        )}
        <h4>Answers</h4>
        <ul class="answers">
          {Object.entries(operation.responses ?? {}).map(([status, ref]) => {
            const response = resolve(document, ref);
            return (
              <li key={status}>
                <span class={`status ${status.startsWith("2") ? "good" : status.startsWith("3") ? "" : "bad"}`}>{status}</span>
                <div>
                  <Prose text={response?.description} />
                  {response?.content && (
                    <details class="fold">
                      <summary>{content_words(document, response.content)}</summary>
                      <Content document={document} content={response.content} />
                    </details>
                  )}
                </div>
              </li>
            );
          })}
        </ul>
        <h4>Try it</h4>
        <pre tabIndex={0}>{curl(document, call)}</pre>
      </div>
    </details>
  );
}

function Content({ document, content }: { document: OpenApi; content: Record<string, MediaType> | undefined }) {
  const schema = Object.values(content ?? {})[0]?.schema;
  return schema ? <Shape document={document} schema={schema} /> : null;
}

function content_words(document: OpenApi, content: Record<string, MediaType>): string {
  return Object.entries(content)
    .map(([mime, media]) => `${type_words(document, media.schema)} as ${mime}`)
    .join(", ");
}

/** The call for a command line. */
export function curl(document: OpenApi, call: Call): string {
  const words = ["curl"];
  if (call.method === "HEAD") words.push("--head");
  else if (call.method !== "GET") words.push(`-X ${call.method}`);
  const query = call.parameters.filter((one) => one.in === "query" && one.required).map((one) => `${one.name}=…`);
  words.push(`'${location.origin}${call.path}${query.length > 0 ? `?${query.join("&")}` : ""}'`);
  if (call.locked) words.push(`-H "Authorization: Bearer $ACCESS_TOKEN"`);
  if (call.method === "POST") words.push(`-H "Idempotency-Key: $(uuidgen)"`);
  const json = resolve(document, call.operation.requestBody)?.content?.["application/json"];
  if (json) {
    words.push("-H 'Content-Type: application/json'");
    const example = json.example ?? sample(document, json.schema);
    words.push(`-d '${JSON.stringify(example, null, 2).replace(/'/g, "'\\''")}'`);
  }
  return words.join(" \\\n  ");
}
