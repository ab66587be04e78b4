/** A schema as a list of fields, deeper ones behind a fold. */

import { Prose } from "./prose";
import { flat, limits, type_words, type Schema } from "./schema";

/** Deep enough for everything the API has; a schema that contains itself stops here. */
const DEPTH_MAX = 6;

export function Shape({ document, schema, depth = 0 }: { document: unknown; schema: Schema | undefined; depth?: number }) {
  const one = flat(document, schema);
  const either = one.oneOf ?? one.anyOf;
  if (either && either.some((choice) => inner(document, choice))) {
    return (
      <div class="either">
        {either.map((choice) => (
          <Fold key={type_words(document, choice)} document={document} schema={choice} label={type_words(document, choice)} depth={depth} />
        ))}
      </div>
    );
  }
  if (one.items && inner(document, one.items)) return <Shape document={document} schema={one.items} depth={depth} />;
  const fields = Object.entries(one.properties ?? {});
  if (fields.length === 0) {
    return (
      <p class="soft">
        <code>{type_words(document, schema)}</code>
        {limits(one).map((limit) => ` · ${limit}`)}
      </p>
    );
  }
  return (
    <ul class="fields">
      {fields.map(([name, field]) => {
        const shown = flat(document, field);
        return (
          <li key={name}>
            <p>
              <code class="name">{name}</code> <span class="type">{type_words(document, field)}</span>
              {!one.required?.includes(name) && <span class="soft"> · optional</span>}
              {limits(shown).map((limit) => (
                <span class="soft" key={limit}>
                  {" "}
                  · {limit}
                </span>
              ))}
            </p>
            <Prose text={field.description ?? shown.description} />
            {depth < DEPTH_MAX && inner(document, field) && <Fold document={document} schema={field} label="its fields" depth={depth} />}
          </li>
        );
      })}
    </ul>
  );
}

function Fold({ document, schema, label, depth }: { document: unknown; schema: Schema; label: string; depth: number }) {
  return (
    <details class="fold">
      <summary>{label}</summary>
      <Shape document={document} schema={schema} depth={depth + 1} />
    </details>
  );
}

/** Whether there are fields to show inside. */
function inner(document: unknown, schema: Schema): boolean {
  const one = flat(document, schema);
  if (Object.keys(one.properties ?? {}).length > 0) return true;
  if (one.items) return inner(document, one.items);
  return (one.oneOf ?? one.anyOf ?? []).some((choice) => Object.keys(flat(document, choice).properties ?? {}).length > 0);
}
