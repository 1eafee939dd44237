/** The command line of `tensorwire bench`: defaults, what is refused, and in which words. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type HelpAnswer, parseCommandOptions } from '../../src/bench/command-options.js';
import { armName } from '../../src/bench/results.js';
import { temporaryDirectory } from '../support/engine.js';

const parse = (line: string) => parseCommandOptions(line.split(' '));
const BOTH = '--grpc localhost:8001 --http http://localhost:8000/ --model m';

test('two addresses and a model are enough', () => {
  expect(parse(BOTH)).toEqual({
    target: { grpc: { address: 'localhost:8001' }, http: { url: 'http://localhost:8000' } },
    model: 'm',
    version: undefined,
    input: undefined,
    shapes: new Map(),
    sizesKb: [2, 10, 100, 500, 1000],
    loads: [1, 8, 64].map((concurrency) => ({ kind: 'closed', concurrency })),
    arms: ['rest_json', 'rest_binary', 'grpc_raw', 'grpc_typed'].map((encoding) => ({ encoding, gzip: false })),
    msPerRound: 1000,
    rounds: 5,
    processes: 1,
    prompt: undefined,
    out: undefined,
    json: false,
    quick: false,
    timeoutMs: 30_000,
  });
});

test('a quick run has fewer of everything that is not given', () => {
  const quick = parse(`${BOTH} --quick --rounds 7 --sizes 0.5`);
  expect(quick).toMatchObject({ sizesKb: [0.5], rounds: 7, msPerRound: 250, quick: true });
  expect(quick.loads).toHaveLength(2);
});

test('loads are closed loops and, by rate, open ones', () => {
  expect(parse(`${BOTH} --concurrency 4 --rate 100,250.5`).loads).toEqual([
    { kind: 'closed', concurrency: 4 },
    { kind: 'open', ratePerSecond: 100 },
    { kind: 'open', ratePerSecond: 250.5 },
  ]);
});

test('arms are those of the addresses, those named, and with --gzip each compressed, too', () => {
  const arms = (line: string) => parse(line).arms.map(armName);
  expect(arms('--grpc a:1 --model m')).toEqual(['grpc_raw', 'grpc_typed']);
  expect(arms('--http http://a:1 --model m --gzip')).toEqual([
    'rest_json',
    'rest_binary',
    'rest_json+gzip',
    'rest_binary+gzip',
  ]);
  expect(arms(`${BOTH} --arms grpc_raw,rest_json+gzip`)).toEqual(['grpc_raw', 'rest_json+gzip']);
  expect(() => parse('--http http://a:1 --model m --arms grpc_raw')).toThrow('--arms: grpc_raw needs --grpc');
  expect(() => parse(`${BOTH} --arms soap`)).toThrow('option --arms: "soap" is none of rest_json, ');
});

test('TLS comes from the scheme or with a certificate', () => {
  const ca = join(temporaryDirectory(), 'ca.pem');
  const pem = '-----BEGIN CERTIFICATE-----\n';
  writeFileSync(ca, pem);
  const tls = { ca: Buffer.from(pem) };
  expect(parse('--grpc grpcs://a:1 --model m').target.grpc).toEqual({ address: 'a:1', tls: true });
  expect(parse(`--grpc a:1 --http https://b/v --model m --ca ${ca}`).target).toEqual({
    grpc: { address: 'a:1', tls },
    http: { url: 'https://b/v', tls },
  });
  expect(parse(`--grpc grpc://a:1 --model m --ca ${ca}`).target.grpc).toEqual({ address: 'a:1' });
  expect(() => parse(`${BOTH} --cert ${ca}`)).toThrow('--cert and --key need each other');
  expect(() => parse(`${BOTH} --ca /no/such`)).toThrow('option --ca: ENOENT');
  const request = join(temporaryDirectory(), 'request.json');
  writeFileSync(request, '{}');
  expect(() => parse(`${BOTH} --ca ${request}`)).toThrow(/^option --ca: .*request\.json is no PEM$/);
});

test('shapes are given by input', () => {
  expect(parse(`${BOTH} --shape ids:1,128 --shape a:b:-1`).shapes).toEqual(
    new Map([
      ['ids', [1, 128]],
      ['a:b', [-1]],
    ]),
  );
  expect(() => parse(`${BOTH} --shape ids:1x2`)).toThrow('option --shape: "ids:1x2" is not input:1,-1,3');
});

test.each([
  ['--model m', 'no server: give --grpc'],
  ['--grpc a:1', 'option --model is missing'],
  [`${BOTH} --grpc a`, 'option --grpc: "a" is not host:port'],
  [`${BOTH} --http localhost:8000`, 'option --http: "localhost:8000" is not http://host:port'],
  [`${BOTH} --sizes 2,x`, 'option --sizes: "x" is not a number above 0'],
  [`${BOTH} --sizes 0`, 'option --sizes: "0" is not a number above 0'],
  [`${BOTH} --concurrency 1.5`, 'option --concurrency: "1.5" is not a whole number above 0'],
  [`${BOTH} --sizes 2,1e9`, 'option --sizes: "1e9" is more than 262144'],
  [`${BOTH} --timeout 3000000`, 'option --timeout: "3000000" is more than 86400'],
  [`${BOTH} --concurrency 100000000`, 'option --concurrency: "100000000" is more than 10000'],
  [`${BOTH} --rounds -1`, 'option --rounds: "-1" is not a number above 0'],
  [`${BOTH} --input /no/such`, 'option --input: ENOENT'],
  [`${BOTH} --input f --sizes 2`, 'option --input: a request that is given has its shapes'],
  [`${BOTH} --rouns 3`, "unknown option '--rouns' (Did you mean --rounds?)"],
  ['--grpc grpcs://a:1 --model m --prompt x', 'option --prompt: streams are read without TLS'],
  [`${BOTH} extra`, 'too many arguments'],
])('%s is refused in one line', (line, message) => {
  expect(() => parse(line)).toThrow(message);
});

test('help is an answer that shows how to give a request', () => {
  let text = '';
  try {
    parse('--help');
  } catch (error) {
    text = (error as HelpAnswer).text;
  }
  expect(text).toContain('--grpc <host:port>');
  expect(text).toContain('--input request.json');
});
