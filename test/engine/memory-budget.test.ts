/** The budget's policy as a table: what is loaded, what is needed, what goes. */
import { expect, test } from 'vitest';
import { type Resident, type Room, roomFor } from '../../src/engine/memory-budget.js';

interface Named extends Resident {
  readonly name: string;
}

/** `name bytes@lastUse`, busy with a `!` behind it. */
function residents(text: string): Named[] {
  return text
    .split(' ')
    .filter((word) => word !== '')
    .map((word) => {
      const [, name, bytes, lastUse, busy] = /^([a-z])(\d+)@(\d+)(!?)$/.exec(word)!;
      return { name: name!, bytes: Number(bytes), lastUse: Number(lastUse), busy: busy === '!' };
    });
}

function told(room: Room<Named>): string {
  return room.kind === 'room' ? `unload ${room.unload.map(({ name }) => name).join('')}`.trim() : room.kind;
}

const BUDGET = 100;

test.for<[what: string, loaded: string, needed: number, expected: string]>([
  ['an empty memory takes what fits exactly', '', 100, 'unload'],
  ['what is larger than all of it never fits', '', 101, 'never'],
  ['nor does it when everything could go', 'a50@1', 101, 'never'],
  ['nothing goes while there is room', 'a40@1 b40@2', 20, 'unload'],
  ['the least recently used goes for one byte', 'a40@1 b40@2', 21, 'unload a'],
  ['by use, not by the order of loading', 'a40@9 b40@2', 21, 'unload b'],
  ['as many go as are needed, and no more', 'a20@1 b20@2 c20@3 d20@4 e20@5', 40, 'unload ab'],
  ['in the order of their use', 'a20@5 b20@4 c20@3 d20@2 e20@1', 40, 'unload ed'],
  ['a busy one never goes', 'a40@1! b40@2', 21, 'unload b'],
  ['a busy one is waited for where the idle ones are not enough', 'a40@1! b40@2', 61, 'wait'],
  ['the idle ones stay until it is worth it', 'a60@1! b20@2 c20@3', 50, 'wait'],
  ['all busy', 'a50@1! b50@2!', 1, 'wait'],
  ['a small one does not go with a large one that is enough', 'a5@1 b80@2 c15@3', 60, 'unload b'],
  ['the small one goes alone where it is enough', 'a5@1 b80@2 c15@3', 5, 'unload a'],
  ['of those that are not needed the last used stays', 'a30@1 b10@2 c60@3', 90, 'unload ac'],
  ['everything goes for one as large as the budget', 'a50@1 b50@2', 100, 'unload ab'],
  ['what is over already goes, also for nothing more', 'a60@1 b60@2', 0, 'unload a'],
  ['nothing needed, nothing unloaded', 'a50@1 b50@2', 0, 'unload'],
])('%s', ([, loaded, needed, expected]) => {
  expect(told(roomFor(residents(loaded), needed, BUDGET))).toBe(expected);
});

test('whatever is loaded, what goes makes the room, is idle, and could not be less by any one', () => {
  let state = 7;
  const random = (below: number) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  const kinds = { room: 0, wait: 0, never: 0 };
  for (let round = 0; round < 3000; round++) {
    const loaded = Array.from({ length: random(8) }, (_, i) => ({
      name: String(i),
      bytes: 1 + random(40),
      lastUse: random(100),
      busy: random(3) === 0,
    }));
    const needed = random(120);
    const room = roomFor(loaded, needed, BUDGET);
    kinds[room.kind]++;
    const sum = (of: readonly Resident[]) => of.reduce((total, { bytes }) => total + bytes, 0);
    const idle = loaded.filter(({ busy }) => !busy);
    if (room.kind === 'never') {
      expect(needed).toBeGreaterThan(BUDGET);
    } else if (room.kind === 'wait') {
      expect(sum(loaded) - sum(idle) + needed).toBeGreaterThan(BUDGET);
    } else {
      expect(room.unload.filter(({ busy }) => busy)).toEqual([]);
      const over = sum(loaded) + needed - BUDGET;
      expect(sum(room.unload)).toBeGreaterThanOrEqual(over);
      for (const { bytes } of room.unload) expect(sum(room.unload) - bytes).toBeLessThan(over);
    }
  }
  expect(Math.min(...Object.values(kinds))).toBeGreaterThan(100);
});
