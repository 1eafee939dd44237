import { expect, test } from 'vitest';
import { codeOfStatus, messageOf, parseRetryAfter } from '../../src/client/rest-status.js';
import { HTTP_STATUS } from '../../src/rest/status.js';

const SAME_STATUS = ['FAILED_PRECONDITION', 'ALREADY_EXISTS'];

test("the codes of the server's table come back from their statuses, but for those that share one", () => {
  for (const [code, status] of Object.entries(HTTP_STATUS)) {
    expect(codeOfStatus(status)).toBe(SAME_STATUS.includes(code) ? 'INVALID_ARGUMENT' : code);
  }
  expect(codeOfStatus(502)).toBe('UNAVAILABLE');
  expect(codeOfStatus(302)).toBe('UNKNOWN');
});

const said = (status: number, body: string, type = 'application/json') => messageOf(status, type, Buffer.from(body));

test.each([
  ['{"error":"no such model"}', 'no such model'],
  ['{"error":{"message":"bad","type":"x"}}', 'bad'],
  ['{"detail":"Model with name x does not exist."}', 'Model with name x does not exist.'],
  ['{"detail":[{"loc":["body"],"msg":"field required"}]}', '[{"loc":["body"],"msg":"field required"}]'],
  ['{"message":"limit"}', 'limit'],
])('the message is taken out of %s', (body, message) => {
  expect(said(400, body)).toBe(message);
});

test("a proxy's page is told in a few words, and no body at all is said to be none", () => {
  const page = '<html><head><title>502 Bad\nGateway</title></head><body><center>nginx</center></body></html>';
  expect(said(502, page, 'text/html; charset=utf-8')).toBe('HTTP status 502 with text/html: 502 Bad Gateway');
  expect(said(503, '<script>var a;</script><p>over  capacity</p>', 'text/html')).toBe(
    'HTTP status 503 with text/html: over capacity',
  );
  expect(said(500, 'upstream \u0007'.repeat(1000), 'text/plain').length).toBeLessThan(200);
  expect(messageOf(500, undefined, Buffer.alloc(0))).toBe('HTTP status 500 with no content type and no text');
  expect(said(500, '[1]')).toBe('HTTP status 500 with application/json: [1]');
  expect(said(500, JSON.stringify({ error: 'x'.repeat(1e6) })).length).toBeLessThan(5000);
});

test('Retry-After is read as seconds and as a date, and what is neither forbids', () => {
  const now = Date.parse('Wed, 21 Oct 2026 07:28:00 GMT');
  expect(parseRetryAfter(undefined, now)).toBeUndefined();
  expect(parseRetryAfter('0', now)).toBe(0);
  expect(parseRetryAfter(' 3 ', now)).toBe(3000);
  expect(parseRetryAfter('Wed, 21 Oct 2026 07:28:05 GMT', now)).toBe(5000);
  expect(parseRetryAfter('Wed, 21 Oct 2026 07:27:00 GMT', now)).toBe(0);
  expect(parseRetryAfter('soon', now)).toBeNaN();
});
