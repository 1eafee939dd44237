/**
 * What all plots have around them: title, description, legend, panels in a grid, remarks, on paper of their own colour.
 *
 * Called by the plots. Pure. Owns the layout of a figure; a panel draws itself into the area it is given.
 */
import { FAINT_INK, INK, PAPER } from './plot-style.js';
import { element, escaped, groupAt, textAt, textWidth } from './svg.js';

export interface Panel {
  readonly title: string;
  readonly width: number;
  readonly height: number;
  /** Markup, its origin the panel's upper left corner below the title. */
  readonly body: string;
}

export interface LegendItem {
  readonly label: string;
  /** Markup of at most 24 x 12, its origin the left end of the line's middle. */
  readonly symbol: string;
}

export interface Figure {
  readonly title: string;
  /** Under the title, and for who can't see the plot. */
  readonly description: string;
  readonly legend: readonly LegendItem[];
  readonly columns: number;
  readonly panels: readonly Panel[];
  readonly remarks?: readonly string[];
}

const MARGIN = 24;
const GAP = 28;
const PANEL_TITLE = 22;
const LINE = 18;
const SYMBOL = 30;

const DEFINITIONS = element(
  'defs',
  {},
  hatch('transit', 'M0,6 L6,0', '#7a7a7a', '#f4f4f4'),
  hatch('rest', 'M0,3 L6,3 M3,0 L3,6', '#b00020', '#ffffff'),
);

/** A standalone SVG file. */
export function drawFigure({ title, description, legend, columns, panels, remarks = [] }: Figure): string {
  const columnWidth = Math.max(...panels.map(({ width }) => width));
  const used = Math.min(columns, panels.length);
  const width = Math.max(640, MARGIN * 2 + used * columnWidth + (used - 1) * GAP);
  const parts: string[] = [];
  let y = MARGIN + 14;
  parts.push(textAt(MARGIN, y, title, { size: 17, weight: 'bold' }));
  for (const line of wrappedText(description, width - 2 * MARGIN, 12)) {
    y += LINE;
    parts.push(textAt(MARGIN, y, line, { size: 12, fill: FAINT_INK }));
  }
  y += LINE + 4;
  let x = MARGIN;
  for (const { label, symbol } of legend) {
    const itemWidth = SYMBOL + textWidth(label, 12) + 14;
    if (x > MARGIN && x + itemWidth > width - MARGIN) [x, y] = [MARGIN, y + LINE];
    parts.push(groupAt(x, y, symbol), textAt(x + SYMBOL, y + 4, label, { size: 12 }));
    x += itemWidth;
  }
  y += LINE;
  for (let first = 0; first < panels.length; first += used) {
    const row = panels.slice(first, first + used);
    row.forEach((panel, column) => {
      const left = MARGIN + column * (columnWidth + GAP);
      parts.push(textAt(left, y + 14, panel.title, { size: 13, weight: 'bold' }));
      parts.push(groupAt(left, y + PANEL_TITLE, panel.body));
    });
    y += PANEL_TITLE + Math.max(...row.map(({ height }) => height)) + 14;
  }
  for (const line of remarks.flatMap((remark) => wrappedText(remark, width - 2 * MARGIN, 11))) {
    y += 15;
    parts.push(textAt(MARGIN, y, line, { fill: FAINT_INK }));
  }
  return document(title, description, width, y + MARGIN, parts);
}

function document(title: string, description: string, width: number, height: number, parts: readonly string[]): string {
  const svg = element(
    'svg',
    {
      xmlns: 'http://www.w3.org/2000/svg',
      version: '1.1',
      width,
      height,
      viewBox: `0 0 ${Math.ceil(width)} ${Math.ceil(height)}`,
      role: 'img',
      'aria-labelledby': 'title description',
      'font-family': 'system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif',
      fill: INK,
    },
    element('title', { id: 'title' }, escaped(title)),
    element('desc', { id: 'description' }, escaped(description)),
    DEFINITIONS,
    element('rect', { width: '100%', height: '100%', fill: PAPER }),
    `\n${parts.join('\n')}\n`,
  );
  return `<?xml version="1.0" encoding="UTF-8"?>\n${svg}\n`;
}

function hatch(id: string, path: string, stroke: string, fill: string): string {
  return element(
    'pattern',
    { id, width: 6, height: 6, patternUnits: 'userSpaceOnUse' },
    element('rect', { width: 6, height: 6, fill }),
    element('path', { d: path, stroke, 'stroke-width': 1 }),
  );
}

function wrappedText(text: string, width: number, size: number): string[] {
  const lines: string[] = [];
  for (const word of text.split(' ')) {
    const line = lines.at(-1);
    if (line !== undefined && textWidth(`${line} ${word}`, size) <= width) lines[lines.length - 1] = `${line} ${word}`;
    else lines.push(word);
  }
  return lines;
}
