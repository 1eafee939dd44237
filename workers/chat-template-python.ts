/**
 * Values of a chat template as Python's Jinja writes them: `True`, `None`, lists and mappings as their repr().
 *
 * Called by workers/chat-template-interpreter.ts. Pure. Knows the values of @huggingface/jinja by their type names, as it does not export
 * their classes.
 */

/** What the package's values have in common. */
export interface TemplateValue {
  readonly type: string;
  readonly value: unknown;
  __bool__(): { readonly value: boolean };
  toString(): string;
}

/** str() of it; '' for what is not defined. */
export function textOf(value: TemplateValue): string {
  if (value.type === 'StringValue') return value.value as string;
  return value.type === 'UndefinedValue' ? '' : reprOf(value);
}

/** repr() of it. */
function reprOf(value: TemplateValue): string {
  switch (value.type) {
    case 'StringValue':
      return reprOfText(value.value as string);
    case 'BooleanValue':
      return value.value ? 'True' : 'False';
    case 'NullValue':
      return 'None';
    case 'UndefinedValue':
      return 'Undefined';
    case 'FloatValue':
      return reprOfFloat(value.value as number);
    case 'ArrayValue':
      return `[${elementsOf(value).join(', ')}]`;
    case 'TupleValue': {
      const elements = elementsOf(value);
      return elements.length === 1 ? `(${elements[0]},)` : `(${elements.join(', ')})`;
    }
    case 'ObjectValue': {
      const entries = value.value as ReadonlyMap<string, TemplateValue>;
      return `{${Array.from(entries, ([key, each]) => `${reprOfText(key)}: ${reprOf(each)}`).join(', ')}}`;
    }
    default:
      return value.toString();
  }
}

function elementsOf(value: TemplateValue): string[] {
  return (value.value as readonly TemplateValue[]).map(reprOf);
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' };

function reprOfText(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'";
  const escaped = text.replace(/[\\\p{C}\p{Z}]/gu, (character) => ESCAPES[character] ?? escapeOf(character));
  return quote + (quote === "'" ? escaped.replaceAll("'", "\\'") : escaped) + quote;
}

/** Of what Python does not take for printable; a space is. */
function escapeOf(character: string): string {
  if (character === ' ') return character;
  const code = character.codePointAt(0)!;
  const hex = code.toString(16);
  if (code < 0x100) return `\\x${hex.padStart(2, '0')}`;
  return code < 0x10000 ? `\\u${hex.padStart(4, '0')}` : `\\U${hex.padStart(8, '0')}`;
}

function reprOfFloat(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf';
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e16 || size < 1e-4)) {
    return value.toExponential().replace(/([+-])(\d)$/, '$10$2');
  }
  const text = Object.is(value, -0) ? '-0' : String(value);
  return Number.isInteger(value) ? `${text}.0` : text;
}
