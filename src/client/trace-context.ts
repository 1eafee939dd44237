/**
 * The headers that carry the caller's trace to the server: what OpenTelemetry's API injects for the context that is active now.
 *
 * Called by the client before each request, over either protocol. Without an SDK that has set a propagator the API injects nothing, and
 * the request carries nothing. Must not know an SDK: whoever traces brings their own.
 */
import { context, propagation } from '@opentelemetry/api';

/** `traceparent` and whatever else the propagator writes (`tracestate`, `baggage`), names in lower case; a new object. */
export function traceHeaders(): Record<string, string> {
  const headers: Record<string, string> = {};
  propagation.inject(context.active(), headers, {
    set(carrier, name, value) {
      carrier[name.toLowerCase()] = value;
    },
  });
  return headers;
}
