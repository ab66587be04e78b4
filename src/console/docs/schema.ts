/** JSON Schema (2020-12, as OpenAPI 3.1 and AsyncAPI 3 use it) read for people: names, types, limits, an example. */

export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

export interface Schema {
  $ref?: string;
  type?: string | string[];
  title?: string;
  description?: string;
  format?: string;
  enum?: Json[];
  const?: Json;
  default?: Json;
  example?: Json;
  examples?: Json[];
  properties?: Record<string, Schema>;
  required?: string[];
  additionalProperties?: boolean | Schema;
  items?: Schema;
  allOf?: Schema[];
  oneOf?: Schema[];
  anyOf?: Schema[];
  minimum?: number;
  maximum?: number;
  minLength?: number;
  maxLength?: number;
  minItems?: number;
  maxItems?: number;
  pattern?: string;
}

/** Follows `$ref`s inside one document. What leads nowhere is empty. */
export function resolve<T extends object>(document: unknown, value: (T & { $ref?: string }) | undefined): T | undefined {
  let found: unknown = value;
  for (let step = 0; step < 20; step += 1) {
    const ref = (found as { $ref?: unknown } | undefined)?.$ref;
    if (typeof ref !== "string") return found as T | undefined;
    if (!ref.startsWith("#/")) return undefined;
    found = ref
      .slice(2)
      .split("/")
      .map((part) => decodeURIComponent(part).replace(/~1/g, "/").replace(/~0/g, "~"))
      .reduce<unknown>((at, part) => (typeof at === "object" && at !== null ? (at as Record<string, unknown>)[part] : undefined), document);
  }
  return undefined;
}

/** The last word of a `$ref`: what the thing is called. */
export function name_of(ref: string): string {
  return ref.slice(ref.lastIndexOf("/") + 1);
}

/** A schema with its `$ref` followed and its `allOf` laid together. */
export function flat(document: unknown, schema: Schema | undefined): Schema {
  const own = resolve<Schema>(document, schema) ?? {};
  if (!own.allOf) return own;
  const { allOf, ...rest } = own;
  return allOf.reduce<Schema>((whole, part) => {
    const one = flat(document, part);
    return {
      ...one,
      ...whole,
      properties: { ...one.properties, ...whole.properties },
      required: [...(one.required ?? []), ...(whole.required ?? [])],
    };
  }, rest);
}

/** "array of User", "string (date-time) or null". */
export function type_words(document: unknown, schema: Schema | undefined): string {
  if (!schema) return "anything";
  if (schema.$ref) {
    const target = resolve<Schema>(document, schema);
    return target?.properties || target?.oneOf || target?.enum ? name_of(schema.$ref) : type_words(document, target);
  }
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  const either = schema.oneOf ?? schema.anyOf;
  if (either) return [...new Set(either.map((one) => type_words(document, one)))].join(" or ");
  if (schema.allOf) return [...new Set(schema.allOf.map((one) => type_words(document, one)))].join(" and ");
  const types = Array.isArray(schema.type) ? schema.type : [schema.type ?? (schema.properties ? "object" : "anything")];
  return types
    .map((type) => {
      if (type === "array") return `array of ${type_words(document, schema.items)}`;
      return schema.format && type !== "null" ? `${type} (${schema.format})` : type;
    })
    .join(" or ");
}

/** Its limits, each in a few words. */
export function limits(schema: Schema): string[] {
  const words: string[] = [];
  const range = (least: number | undefined, most: number | undefined, unit: string) => {
    if (least !== undefined && most !== undefined) words.push(`${least} to ${most}${unit}`);
    else if (least !== undefined) words.push(`at least ${least}${unit}`);
    else if (most !== undefined) words.push(`at most ${most}${unit}`);
  };
  range(schema.minimum, schema.maximum, "");
  range(schema.minLength, schema.maxLength, " characters");
  range(schema.minItems, schema.maxItems, " items");
  if (schema.enum) words.push(`one of ${schema.enum.map((one) => JSON.stringify(one)).join(", ")}`);
  if (schema.pattern !== undefined) words.push(`matches ${schema.pattern}`);
  if (schema.default !== undefined) words.push(`${JSON.stringify(schema.default)} when absent`);
  return words;
}

/** A value that fits, for examples: the schema's own where it has one. */
export function sample(document: unknown, schema: Schema | undefined, depth = 0): Json {
  const one = flat(document, schema);
  if (one.example !== undefined) return one.example;
  if (one.examples?.[0] !== undefined) return one.examples[0];
  if (one.const !== undefined) return one.const;
  if (one.default !== undefined && one.default !== null) return one.default;
  if (one.enum?.[0] !== undefined) return one.enum[0];
  const either = one.oneOf ?? one.anyOf;
  if (either) {
    return sample(document, either.find((choice) => flat(document, choice).type !== "null") ?? either[0], depth);
  }
  const type = Array.isArray(one.type) ? one.type.find((name) => name !== "null") : one.type;
  if (one.properties || type === "object") {
    if (depth > 4) return {};
    return Object.fromEntries(Object.entries(one.properties ?? {}).map(([name, part]) => [name, sample(document, part, depth + 1)]));
  }
  switch (type) {
    case "array":
      return depth > 4 ? [] : [sample(document, one.items, depth + 1)];
    case "integer":
    case "number":
      return one.minimum ?? 0;
    case "boolean":
      return true;
    case "string":
      return one.format === "date-time" ? "2026-11-21T10:00:00.000Z" : one.format === "uuid" ? "0190b5a0-0000-7000-8000-000000000000" : "…";
    default:
      return null;
  }
}
