/** OpenAPI 3.1 and AsyncAPI 3, as far as they are shown, and the reading of both. */

import { resolve, type Schema } from "./schema";

export interface MediaType {
  schema?: Schema;
  example?: unknown;
}

export interface Parameter {
  $ref?: string;
  name: string;
  in: string;
  required?: boolean;
  description?: string;
  schema?: Schema;
}

export interface Operation {
  operationId?: string;
  summary?: string;
  description?: string;
  tags?: string[];
  deprecated?: boolean;
  parameters?: Parameter[];
  requestBody?: { $ref?: string; description?: string; required?: boolean; content?: Record<string, MediaType> };
  responses?: Record<string, { $ref?: string; description?: string; content?: Record<string, MediaType>; headers?: Record<string, { description?: string }> }>;
  security?: Record<string, string[]>[];
}

export interface OpenApi {
  openapi: string;
  info: { title: string; version: string; description?: string };
  tags?: { name: string; description?: string }[];
  paths?: Record<string, Record<string, unknown>>;
  security?: Record<string, string[]>[];
}

/** One call of the API, with what its path adds to it. */
export interface Call {
  id: string;
  method: string;
  path: string;
  operation: Operation;
  parameters: Parameter[];
  /** Whether it needs an access token. */
  locked: boolean;
}

export interface Group {
  name: string;
  description: string | null;
  calls: Call[];
}

const METHODS = ["get", "post", "put", "patch", "delete", "head", "options"];

/** Every call, by its first tag, in the order of the document. */
export function groups_of(document: OpenApi): Group[] {
  const groups = new Map<string, Group>();
  for (const tag of document.tags ?? []) {
    groups.set(tag.name, { name: tag.name, description: tag.description ?? null, calls: [] });
  }
  for (const [path, item] of Object.entries(document.paths ?? {})) {
    for (const method of METHODS) {
      const operation = item[method] as Operation | undefined;
      if (!operation) continue;
      const name = operation.tags?.[0] ?? "other";
      const group = groups.get(name) ?? { name, description: null, calls: [] };
      groups.set(name, group);
      const parameters = [...((item["parameters"] as Parameter[] | undefined) ?? []), ...(operation.parameters ?? [])]
        .map((one) => resolve<Parameter>(document, one))
        .filter((one) => one !== undefined);
      const security = operation.security ?? document.security ?? [];
      group.calls.push({
        id: `op-${operation.operationId ?? `${method}-${path.replace(/\W+/g, "-")}`}`,
        method: method.toUpperCase(),
        path,
        operation,
        parameters,
        locked: security.length > 0 && security.every((one) => Object.keys(one).length > 0),
      });
    }
  }
  return [...groups.values()].filter((group) => group.calls.length > 0);
}

/** Whether a call has to do with what somebody looks for. */
export function found_in(call: Call, words: string): boolean {
  const text = `${call.method} ${call.path} ${call.operation.summary ?? ""} ${call.operation.operationId ?? ""} ${call.operation.description ?? ""}`;
  return words
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.toLowerCase().includes(word));
}

interface AsyncMessage {
  $ref?: string;
  name?: string;
  title?: string;
  summary?: string;
  description?: string;
  payload?: Schema;
}

interface AsyncOperation {
  action: "send" | "receive";
  title?: string;
  summary?: string;
  description?: string;
  channel?: { $ref?: string };
  messages?: { $ref?: string }[];
  reply?: { messages?: { $ref?: string }[] };
}

export interface AsyncApi {
  asyncapi: string;
  info: { title: string; version: string; description?: string };
  channels?: Record<string, { address?: string; description?: string; messages?: Record<string, AsyncMessage> }>;
  operations?: Record<string, AsyncOperation>;
}

/** One message of the socket, seen from the client. */
export interface SocketMessage {
  id: string;
  name: string;
  from: "client" | "server";
  words: string | null;
  payload: Schema | undefined;
  replies: { name: string; payload: Schema | undefined }[];
}

/**
 * What goes over the socket. An AsyncAPI document tells what the engine does: what it receives, the client sends.
 */
export function messages_of(document: AsyncApi): SocketMessage[] {
  const read = (ref: { $ref?: string } | undefined) => {
    const message = resolve<AsyncMessage>(document, ref as AsyncMessage | undefined);
    return { message, name: message?.name ?? message?.title ?? ref?.$ref?.split("/").at(-1) ?? "message" };
  };
  const found: SocketMessage[] = [];
  for (const [id, operation] of Object.entries(document.operations ?? {})) {
    const channel = resolve<{ messages?: Record<string, AsyncMessage> }>(document, operation.channel as { $ref?: string } | undefined);
    const refs: { $ref?: string }[] = operation.messages ?? Object.values(channel?.messages ?? {});
    for (const ref of refs) {
      const { message, name } = read(ref);
      found.push({
        id: `ws-${id}-${name}`,
        name,
        from: operation.action === "receive" ? "client" : "server",
        words: message?.summary ?? message?.description ?? operation.summary ?? operation.description ?? null,
        payload: message?.payload,
        replies: (operation.reply?.messages ?? []).map((reply) => {
          const answer = read(reply);
          return { name: answer.name, payload: answer.message?.payload };
        }),
      });
    }
  }
  return found;
}
