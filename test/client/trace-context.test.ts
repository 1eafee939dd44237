import { type Context, propagation, ROOT_CONTEXT, type TextMapPropagator, trace } from '@opentelemetry/api';
import { afterEach, expect, test } from 'vitest';
import { traceHeaders } from '../../src/client/trace-context.js';

afterEach(() => propagation.disable());

test('without a propagator a request carries nothing', () => {
  expect(traceHeaders()).toEqual({});
});

test('what the propagator writes for the active context is carried, names in lower case', () => {
  const span = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', traceFlags: 1 };
  const active: Context[] = [];
  const propagator: TextMapPropagator = {
    inject(context, carrier, { set }) {
      active.push(context);
      const { traceId, spanId } = trace.getSpanContext(trace.setSpanContext(context, span))!;
      set(carrier, 'Traceparent', `00-${traceId}-${spanId}-01`);
      set(carrier, 'tracestate', 'a=1');
    },
    extract: (context) => context,
    fields: () => ['traceparent', 'tracestate'],
  };
  propagation.setGlobalPropagator(propagator);
  expect(traceHeaders()).toEqual({ traceparent: `00-${span.traceId}-${span.spanId}-01`, tracestate: 'a=1' });
  expect(active).toEqual([ROOT_CONTEXT]);
});
