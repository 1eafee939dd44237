/**
 * `strftime_now`, by which chat templates write today's date, as Python's strftime has it in English.
 *
 * Called by workers/chat-template.ts. Local time, as in Python. A directive that is not known stays as it is.
 */

const MONTHS = 'January February March April May June July August September October November December'.split(' ');
const DAYS = 'Sunday Monday Tuesday Wednesday Thursday Friday Saturday'.split(' ');
const DAY_MS = 86_400_000;

const padded = (value: number, digits = 2): string => String(value).padStart(digits, '0');

const DIRECTIVES: Readonly<Record<string, (date: Date) => string>> = {
  Y: (date) => String(date.getFullYear()),
  y: (date) => padded(date.getFullYear() % 100),
  m: (date) => padded(date.getMonth() + 1),
  d: (date) => padded(date.getDate()),
  e: (date) => String(date.getDate()).padStart(2),
  B: (date) => MONTHS[date.getMonth()]!,
  b: (date) => MONTHS[date.getMonth()]!.slice(0, 3),
  h: (date) => MONTHS[date.getMonth()]!.slice(0, 3),
  A: (date) => DAYS[date.getDay()]!,
  a: (date) => DAYS[date.getDay()]!.slice(0, 3),
  w: (date) => String(date.getDay()),
  u: (date) => String(date.getDay() || 7),
  j: (date) => padded(dayOfYear(date), 3),
  H: (date) => padded(date.getHours()),
  I: (date) => padded(date.getHours() % 12 || 12),
  M: (date) => padded(date.getMinutes()),
  S: (date) => padded(date.getSeconds()),
  f: (date) => padded(date.getMilliseconds() * 1000, 6),
  p: (date) => (date.getHours() < 12 ? 'AM' : 'PM'),
  F: (date) => formatDate(date, '%Y-%m-%d'),
  T: (date) => formatDate(date, '%H:%M:%S'),
  R: (date) => formatDate(date, '%H:%M'),
  D: (date) => formatDate(date, '%m/%d/%y'),
  x: (date) => formatDate(date, '%m/%d/%y'),
  X: (date) => formatDate(date, '%H:%M:%S'),
  c: (date) => formatDate(date, '%a %b %e %H:%M:%S %Y'),
  n: () => '\n',
  t: () => '\t',
  z: () => '',
  Z: () => '',
  '%': () => '%',
};

/** `%-d` and its like are the number without what it is filled up with. */
export function formatDate(date: Date, format: string): string {
  return format.replace(/%(-?)([a-zA-Z%])/g, (all, bare: string, letter: string) => {
    const text = DIRECTIVES[letter]?.(date);
    if (text === undefined) return all;
    return bare === '' ? text : text.replace(/^[0 ]+(?=\d)/, '');
  });
}

function dayOfYear(date: Date): number {
  const day = Date.UTC(date.getFullYear(), date.getMonth(), date.getDate());
  return (day - Date.UTC(date.getFullYear(), 0, 0)) / DAY_MS;
}
