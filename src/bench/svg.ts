/**
 * SVG as text: elements, escaping, and how wide a text will be.
 *
 * Called by the plots. Pure, no DOM. SVG 1.1; names and texts from servers are escaped here and nowhere else.
 */

/** A coordinate that is no number is left out, as an attribute without a value would make the whole file unreadable. */
export type Attributes = Readonly<Record<string, string | number | undefined>>;

/** `<name attributes>children</name>`; children are markup already. */
export function element(name: string, attributes: Attributes, ...children: readonly string[]): string {
  const written = Object.entries(attributes)
    .filter(([, value]) => value !== undefined && (typeof value === 'string' || Number.isFinite(value)))
    .map(([key, value]) => ` ${key}="${typeof value === 'number' ? short(value) : escaped(value!)}"`)
    .join('');
  const inner = children.join('');
  return inner === '' ? `<${name}${written}/>` : `<${name}${written}>${inner}</${name}>`;
}

export interface TextStyle {
  readonly size?: number;
  readonly anchor?: 'start' | 'middle' | 'end';
  readonly weight?: 'bold';
  readonly fill?: string;
  readonly transform?: string;
}

/** One line of text, its baseline at y. */
export function textAt(x: number, y: number, text: string, style: TextStyle = {}): string {
  const { size = 11, anchor, weight, fill, transform } = style;
  const attributes = { x, y, 'font-size': size, 'text-anchor': anchor, 'font-weight': weight, fill, transform };
  return element('text', attributes, escaped(text));
}

/** A group whose origin is at x, y; its title is what a pointer resting on it shows. */
export function groupAt(x: number, y: number, ...children: readonly string[]): string {
  return element('g', { transform: `translate(${short(x)},${short(y)})` }, ...children);
}

/** What a pointer resting on the element shows and a screen reader says. */
export function titled(title: string, ...children: readonly string[]): string {
  return element('g', {}, element('title', {}, escaped(title)), ...children);
}

/** About how wide a text is: fonts differ, so a little more than most. */
export function textWidth(text: string, size = 11): number {
  return [...text].length * size * 0.58;
}

/** Text made safe inside elements and attributes; characters that XML can't hold become `?`. */
export function escaped(text: string): string {
  return (
    text
      .toWellFormed()
      // biome-ignore lint/suspicious/noControlCharactersInRegex: these are what XML 1.0 can't hold
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '?')
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll('"', '&quot;')
  );
}

function short(value: number): string {
  return `${Math.round(value * 100) / 100}`;
}
