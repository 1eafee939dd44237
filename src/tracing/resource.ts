/**
 * Whose spans these are: OTLP's resource, from `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES` and the server itself.
 *
 * Called by `settings.ts`, whose lists of `key=value` are read here, too.
 */
import { randomUUID } from 'node:crypto';
import type { Attributes } from './otlp-request.js';

/** What is asked of the environment here. */
interface Variables {
  readonly warnings: string[];
  text(name: string): string | undefined;
}

/** The resource's attributes; what the environment says wins. */
export function resourceAttributes(variables: Variables, version: string): Attributes {
  const attributes = new Map([
    ['service.name', 'tensorwire'],
    ['service.version', version],
    ['service.instance.id', randomUUID()],
    ['telemetry.sdk.name', 'tensorwire'],
    ['telemetry.sdk.language', 'nodejs'],
    ['telemetry.sdk.version', version],
  ]);
  const text = variables.text('OTEL_RESOURCE_ATTRIBUTES');
  const pairs = text === undefined ? [] : parsePairs(text);
  if (pairs === undefined) {
    variables.warnings.push('OTEL_RESOURCE_ATTRIBUTES is no list of key=value pairs: nothing is taken from it');
  }
  for (const [key, value] of pairs ?? []) attributes.set(key, value);
  const serviceName = variables.text('OTEL_SERVICE_NAME');
  if (serviceName !== undefined) attributes.set('service.name', serviceName);
  return [...attributes];
}

/** `key=value,key=value` with percent-encoded values, as in W3C Baggage; undefined where one is not of that form. */
export function parsePairs(text: string): [key: string, value: string][] | undefined {
  const pairs: [string, string][] = [];
  try {
    for (const part of text.split(',')) {
      if (part.trim() === '') continue;
      const equals = part.indexOf('=');
      const key = decodeURIComponent(part.slice(0, Math.max(0, equals)).trim());
      if (key === '') return undefined;
      pairs.push([key, decodeURIComponent(part.slice(equals + 1).trim())]);
    }
  } catch {
    // A percent sign that stands for nothing.
    return undefined;
  }
  return pairs;
}
