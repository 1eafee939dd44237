/**
 * The few pieces of Markdown that the report is made of.
 *
 * Called by the report's parts. Pure. Names come from servers, so what could be markup is escaped here.
 */

export interface MarkdownColumn {
  readonly head: string;
  readonly left?: boolean;
}

/** A table; cells are markup already, but `|` and line breaks in them are taken care of. */
export function markdownTable(columns: readonly MarkdownColumn[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map(cellText).join(' | ')} |`;
  return [
    line(columns.map(({ head }) => head)),
    `| ${columns.map(({ left }) => (left ? ':--' : '--:')).join(' | ')} |`,
    ...rows.map(line),
  ].join('\n');
}

/** Text as it is, whatever stands in it; a `_` inside a word is one already. */
export function markdownText(text: string): string {
  return text.replaceAll(/[\\`*[\]<>#|~]|(?<!\w)_|_(?!\w)/g, '\\$&').replaceAll(/\s+/g, ' ');
}

/** Text in the typeface of code; a backtick in it would end it. */
export function markdownCode(text: string): string {
  return `\`${text.replaceAll('`', "'").replaceAll(/\s+/g, ' ')}\``;
}

export function markdownImage(title: string, file: string): string {
  return `![${markdownText(title)}](${encodeURI(file)})`;
}

/** What only some readers want, behind a line to click. */
export function markdownDetails(summary: string, body: string): string {
  return `<details><summary>${summary.replaceAll('&', '&amp;').replaceAll('<', '&lt;')}</summary>\n\n${body}\n\n</details>`;
}

export function markdownList(items: readonly string[]): string {
  return items.map((item) => `- ${item}`).join('\n');
}

function cellText(text: string): string {
  return text.replaceAll(/\s*\n\s*/g, '<br>').replaceAll(/(?<!\\)\|/g, '\\|');
}
