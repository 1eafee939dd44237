import { expect, test } from 'vitest';
import { TokenTeller } from '../../workers/token-teller.js';

/** A ring that always has something new, and counts how often that was shown. */
function shown() {
  const ring = { count: 0, publish: () => ++ring.count > 0 };
  return { ring, teller: new TokenTeller(ring) };
}

test.each([
  ['steps of half a millisecond and more are told one by one', 0.5, true],
  ['steps of unknown length are told one by one', 0, true],
  ['quick steps are told at once when something else than a step is next', 0.1, false],
])('%s', (_, stepMs, stepIsNext) => {
  const { ring, teller } = shown();
  for (let step = 0; step < 10; step++) teller.tell(step * 0.1, stepMs, stepIsNext);
  expect(ring.count).toBe(10);
});

test('quick steps are told together: the first at once, the others a millisecond after those before', () => {
  const { ring, teller } = shown();
  const counts = Array.from({ length: 12 }, (_, step) => {
    teller.tell(step * 0.25, 0.25, true);
    return ring.count;
  });
  expect(counts).toEqual([1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3]);
});

test('an end does not wait for the tokens of the next step, and what follows it does again', () => {
  const { ring, teller } = shown();
  teller.tell(0, 0.25, true);
  teller.hurry();
  teller.tell(0.25, 0.25, true);
  expect(ring.count).toBe(2);
  teller.tell(0.5, 0.25, true);
  expect(ring.count).toBe(2);
});
