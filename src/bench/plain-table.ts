/**
 * A table of plain text, and paragraphs as wide as it.
 *
 * Called by the table and the verdict for the terminal. Pure. No colours and no frame, so that it is the same in a terminal, a log and a
 * pipe.
 */
import Table from 'cli-table3';

export interface PlainColumn {
  /** Lines are separated by \n. */
  readonly head: string;
  readonly left?: boolean;
  /** Text is wrapped at so many characters; the column is as wide as its text otherwise. */
  readonly width?: number;
}

const NO_FRAME = {
  ...{ top: '', 'top-mid': '', 'top-left': '', 'top-right': '' },
  ...{ bottom: '', 'bottom-mid': '', 'bottom-left': '', 'bottom-right': '' },
  ...{ left: '', 'left-mid': '', mid: '', 'mid-mid': '', right: '', 'right-mid': '', middle: '  ' },
};

/** Rows by group, an empty line between groups. Numbers to the right, what is `left` to the left. */
export function plainTable(columns: readonly PlainColumn[], groups: readonly (readonly string[][])[]): string {
  const table = new Table({
    head: columns.map(({ head }) => head),
    colAligns: columns.map(({ left }) => (left ? 'left' : 'right')),
    colWidths: columns.map(({ width }) => width ?? null),
    wordWrap: true,
    style: { head: [], border: [], 'padding-left': 0, 'padding-right': 0 },
    chars: NO_FRAME,
  });
  groups.forEach((rows, index) => {
    if (index > 0) table.push(columns.map(() => ''));
    table.push(...rows.map((row) => row.map(glued)));
  });
  return table
    .toString()
    .split('\n')
    .map((line) => line.trimEnd().replaceAll(GLUE, ' '))
    .join('\n');
}

/** A figure stays with its unit when a cell is wrapped: the table breaks at spaces of any kind, so between them stands none. */
const GLUE = '\ue000';

function glued(text: string): string {
  return text.replaceAll(/(?<=\d) (?=(?:%|ms|us|KB|MB|B|s)(?!\w))/g, GLUE);
}

/** A line of text and one below it. */
export function plainHeading(text: string): string {
  return `${text}\n${'─'.repeat(text.length)}`;
}

/** A paragraph broken between words; lines after the first are indented. */
export function wrapText(text: string, width: number, indent = ''): string {
  const lines: string[] = [];
  for (const part of glued(text).split(' ')) {
    const word = part.replaceAll(GLUE, ' ');
    const line = lines.at(-1);
    if (line !== undefined && line.length + 1 + word.length <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(line === undefined ? word : indent + word);
  }
  return lines.join('\n');
}
