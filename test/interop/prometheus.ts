/**
 * Prometheus itself, from Debian's package, over a server under load: every query of the dashboard and every rule must have data, the
 * rules must be valid, and the alerts must come when they should.
 *
 * Called by `run.ts`. The configuration is the one in deploy/prometheus, with a shorter interval and this server's address.
 */
import { ok } from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { identityModel, writeModel } from '../support/onnx.js';
import { startServer } from '../support/server.js';
import { eventually, findPrometheus, Prometheus, type Sample, until } from './prometheus-process.js';
import { type Load, startLoad } from './protocol-load.js';
import type { Outcome } from './run.js';

const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));
const MODELS = fileURLToPath(new URL('../../models/', import.meta.url));
const RULES = join(DEPLOY, 'prometheus/alerts.yml');
/** What stands for Grafana's `$__rate_interval`, and what the load has to last for it. */
const RATE_INTERVAL = '10s';
const SCRAPES = 12;
/** These end what hangs, and what will never be right. A machine that stands still now and then loses a scrape, and with it what was there. */
const SCRAPED_MS = 240_000;
const RIGHT_MS = 60_000;
const PROMTOOL_MS = 120_000;

interface Panel {
  readonly title: string;
  readonly targets?: readonly { readonly expr: string }[];
}

interface Dashboard {
  readonly panels: readonly Panel[];
  readonly templating: { readonly list: readonly { readonly name: string; readonly definition?: string }[] };
}

export async function runPrometheus(): Promise<Outcome> {
  const binaries = findPrometheus();
  if ('skipped' in binaries) return binaries;
  const cases = new Cases();
  const promtool =
    (...args: string[]) =>
    () => {
      execFileSync(binaries.promtool, args, { cwd: join(DEPLOY, 'prometheus'), stdio: 'pipe', timeout: PROMTOOL_MS });
    };
  await cases.run('promtool check config', promtool('check', 'config', 'prometheus.yml'));
  await cases.run('promtool check rules', promtool('check', 'rules', 'alerts.yml'));
  await cases.run('promtool test rules', promtool('test', 'rules', 'alerts.test.yml'));

  const folder = mkdtempSync(join(tmpdir(), 'tensorwire-observed-'));
  writeModel(folder, 'identity', { versions: { 1: identityModel('FP32', ['n']) } });
  cpSync(join(MODELS, 'stories'), join(folder, 'stories'), { recursive: true });
  writeModel(folder, 'broken', { versions: { 1: Buffer.from('no model') } });
  const server = await startServer({ repository: folder, args: ['--log-level', 'error'] });
  let load: Load | undefined;
  let prometheus: Prometheus | undefined;
  const config = join(folder, 'prometheus.yml');
  writeFileSync(config, configFor(server.metricsPort));
  try {
    await server.waitFor(/^ +stories +1 +READY$/m);
    load = startLoad(server, 'identity', 'stories');
    prometheus = await Prometheus.start(binaries.prometheus, config);
    await check(cases, prometheus, load);
  } finally {
    await prometheus?.stop();
    await server.stop();
    rmSync(folder, { recursive: true });
  }
  return cases;
}

/** The configuration that is shipped, for a server of this test. */
function configFor(port: number): string {
  return readFileSync(join(DEPLOY, 'prometheus/prometheus.yml'), 'utf8')
    .replaceAll(/(_interval:) 15s/g, '$1 1s')
    .replace('- alerts.yml', `- ${RULES}`)
    .replace('localhost:8002', `127.0.0.1:${port}`);
}

async function check(cases: Cases, prometheus: Prometheus, load: Load): Promise<void> {
  const dashboard = JSON.parse(readFileSync(join(DEPLOY, 'grafana/dashboards/tensorwire.json'), 'utf8')) as Dashboard;
  const scraped = async () => ((await prometheus.query('sum_over_time(up[1m])'))[0]?.value ?? 0) >= SCRAPES;
  await until(scraped, SCRAPED_MS, `the server was scraped ${SCRAPES} times`);
  for (const { title, targets = [] } of dashboard.panels) {
    for (const { expr } of targets) {
      await cases.run(`panel '${title}': ${expr}`, () =>
        eventually(async () => hasData(await prometheus.query(substituted(expr))), RIGHT_MS),
      );
    }
  }
  for (const { name, definition } of dashboard.templating.list) {
    if (definition === undefined) continue;
    await cases.run(`variable ${name} has values`, async () => {
      const [, series, label] = /^label_values\((\w+)(?:\{.*\})?, (\w+)\)$/.exec(definition)!;
      await eventually(async () => {
        const values = await prometheus.labelValues(label!, series!);
        if (name === 'model') ok(values.includes('identity') && values.includes('stories'), values.join());
        else ok(values.length === 1, values.join());
      }, RIGHT_MS);
    });
  }
  const evaluated = async () => (await prometheus.rules()).every(({ health }) => health !== 'unknown');
  await until(evaluated, SCRAPED_MS, 'all rules were evaluated');
  const rules = await prometheus.rules();
  await cases.run('all rules are loaded', () => ok(rules.length > 10));
  for (const { name, query, type, health, lastError = '' } of rules) {
    await cases.run(`${type} rule ${name}`, async () => {
      ok(health === 'ok', `${health} ${lastError}`);
      const asked = type === 'recording' ? name : compared(query);
      await eventually(async () => hasData(await prometheus.query(asked)), RIGHT_MS);
    });
  }
  const shareRule = rules.find(({ name }) => name === 'tensorwire:serialization:ratio_5m')!;
  await meaning(cases, prometheus, shareRule.query);
  await load.stop();
  for (const protocol of ['rest', 'grpc'] as const) {
    await cases.run(`inferences over ${protocol} are as many as were asked`, async () => {
      const query = `sum(tensorwire_requests_total{protocol="${protocol}", arm!="none"})`;
      const counted = async () => (await prometheus.query(query))[0]?.value === load.asked[protocol];
      await until(counted, RIGHT_MS, `${query} is ${load.asked[protocol]}`);
    });
  }
}

/** What only a wrong query would say. */
async function meaning(cases: Cases, prometheus: Prometheus, shareRule: string): Promise<void> {
  const mean = (name: string, look: () => Promise<void>) => cases.run(name, () => eventually(look, RIGHT_MS));
  await mean('the model that can not be loaded is the one that is not ready', async () => {
    const found = await prometheus.query('tensorwire_model_ready == 0');
    ok(found.length === 1 && found[0]!.metric.model === 'broken', JSON.stringify(found));
  });
  await mean('phases add up to the latency', async () => {
    const [sum] = await prometheus.query(
      'sum(tensorwire_phase_duration_ms_sum) / sum(tensorwire_request_duration_ms_sum)',
    );
    ok(Math.abs(sum!.value - 1) < 1e-6, String(sum?.value));
  });
  await mean('shares are shares', async () => {
    const shares = await prometheus.query('tensorwire:serialization:ratio_5m{model="identity"}');
    ok(shares.length === 4, `${shares.length} encodings`);
    for (const { value } of shares) ok(value > 0 && value < 1, String(value));
  });
  // Which encoding has the largest one is the machine's business while it stands still at any moment.
  for (const arm of ['rest_json', 'rest_binary', 'grpc_raw', 'grpc_typed']) {
    await mean(`the share of ${arm} is what it decodes and encodes, of all that it takes`, async () => {
      const of = (metric: string, labels = '') =>
        `sum by (model) (rate(${metric}{model="identity", arm="${arm}"${labels}}[5m]))`;
      const part = (phase: string) => of('tensorwire_phase_duration_ms_sum', `, phase="${phase}"`);
      const own = `(${part('decode')} + ${part('encode')}) / ${of('tensorwire_request_duration_ms_sum')}`;
      // One query, so that both see the same scrapes; the rule's answer is the one with this encoding's label.
      const ratios = await prometheus.query(`(${shareRule}) / on (model) group_left () (${own})`);
      const ratio = ratios.find(({ metric }) => metric.arm === arm);
      ok(Math.abs(ratio!.value - 1) < 1e-9, JSON.stringify(ratios));
    });
  }
}

function substituted(expr: string): string {
  return expr.replaceAll('$__rate_interval', RATE_INTERVAL).replaceAll(/\$(model|instance)/g, '.*');
}

/** An alert's expression with the answers of its comparisons in place of what passes them. */
function compared(query: string): string {
  return query.replaceAll(/(==|>=|<=|>|<) (?=[\d.])/g, '$1 bool ');
}

function hasData(samples: readonly Sample[]): void {
  ok(samples.length > 0, 'no data');
  const wrong = samples.filter(({ value }) => Number.isNaN(value));
  ok(wrong.length === 0, `NaN for ${JSON.stringify(wrong.map(({ metric }) => metric))}`);
}

/** Counts what passed, and keeps why the rest did not. */
class Cases {
  passed = 0;
  readonly failures: string[] = [];

  get failed(): number {
    return this.failures.length;
  }

  async run(name: string, body: () => unknown): Promise<void> {
    try {
      await body();
      this.passed++;
    } catch (error) {
      const { message, stdout, stderr } = error as { message: string; stdout?: Buffer; stderr?: Buffer };
      this.failures.push([`${name}: ${message}`, stdout, stderr].filter(Boolean).join('\n'));
    }
  }
}
