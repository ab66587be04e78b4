/** The little Markdown that descriptions use: paragraphs, lists, code, emphasis, links. Never HTML. */

import type { ComponentChildren } from "preact";

const INLINE = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*\s][^*]*)\*|\[([^\]]+)\]\(([^)\s]+)\)/g;

function inline(text: string): ComponentChildren[] {
  const parts: ComponentChildren[] = [];
  let from = 0;
  for (const found of text.matchAll(INLINE)) {
    parts.push(text.slice(from, found.index));
    const [whole, code, strong, emphasis, label, address] = found;
    if (code !== undefined) parts.push(<code>{code}</code>);
    else if (strong !== undefined) parts.push(<strong>{strong}</strong>);
    else if (emphasis !== undefined) parts.push(<em>{emphasis}</em>);
    else if (address !== undefined && /^(https?:|\/|#)/.test(address)) parts.push(<a href={address}>{label}</a>);
    else parts.push(label ?? whole);
    from = found.index + whole.length;
  }
  parts.push(text.slice(from));
  return parts;
}

export function Prose({ text }: { text: string | null | undefined }) {
  if (!text) return null;
  return (
    <div class="prose">
      {text
        .trim()
        .split(/\n\s*\n/)
        .map((block) => {
          if (block.startsWith("```")) return <pre>{block.replace(/^```\w*\n|\n?```$/g, "")}</pre>;
          if (/^#{1,6} /.test(block)) return <h4>{inline(block.replace(/^#+ /, ""))}</h4>;
          if (/^[-*] /.test(block)) {
            return (
              <ul>
                {block.split(/\n(?=[-*] )/).map((item) => (
                  <li>{inline(item.replace(/^[-*] /, ""))}</li>
                ))}
              </ul>
            );
          }
          return <p>{inline(block)}</p>;
        })}
    </div>
  );
}
