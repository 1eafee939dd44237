import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { ConfigAnswer, ConfigError, type Environment, packageVersion, parseConfig } from '../../src/base/config.js';
import { OPTIONS } from '../../src/base/options.js';

const place = mkdtempSync(join(tmpdir(), 'tensorwire-config-'));
const pem = join(place, 'some.pem');
writeFileSync(pem, 'text');
afterAll(() => rmSync(place, { recursive: true }));

const kebab = (field: string) => field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const variable = (field: string) => `TENSORWIRE_${kebab(field).replaceAll('-', '_').toUpperCase()}`;

function complaint(argv: string[], env: Environment = {}): string {
  try {
    parseConfig(argv, env);
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
  throw new Error(`${argv.join(' ')} was accepted`);
}

describe('defaults', () => {
  test('nothing given means the ports of Triton, all addresses and the models of the package', () => {
    const config = parseConfig([], {});
    expect(config).toMatchObject({
      id: 'tensorwire',
      httpPort: 8000,
      grpcPort: 8001,
      metricsPort: 8002,
      httpAddress: '0.0.0.0',
      grpcAddress: '0.0.0.0',
      metricsAddress: '0.0.0.0',
      allowHttp: true,
      httpMaxInputSize: 67108864,
      grpcKeepaliveTime: 7200000,
      strictReadiness: true,
      exitOnError: false,
      exitTimeoutSecs: 30,
      warnings: [],
    });
    expect(config.modelRepository).toHaveLength(1);
    expect(config.modelRepository[0]).toMatch(/[\\/]models$/);
    expect(config.modelCacheDirectory.startsWith(tmpdir())).toBe(true);
  });

  test('the configuration is frozen, its lists too', () => {
    const config = parseConfig([], {});
    expect(Object.isFrozen(config) && Object.isFrozen(config.modelRepository)).toBe(true);
    expect(Object.isFrozen(config.backendConfig) && Object.isFrozen(config.httpCorsOrigin)).toBe(true);
  });

  test('metrics listen where HTTP does unless told otherwise', () => {
    expect(parseConfig(['--http-address=127.0.0.1'], {}).metricsAddress).toBe('127.0.0.1');
    expect(parseConfig(['--http-address=127.0.0.1', '--metrics-address=::1'], {}).metricsAddress).toBe('::1');
  });
});

describe('values that are taken', () => {
  test.each<[string[], object]>([
    [['--http-port', '9000'], { httpPort: 9000 }],
    [['--http-port=0'], { httpPort: 0 }],
    [['--http-port=65535'], { httpPort: 65535 }],
    [['--http-port=1', '--http-port=2'], { httpPort: 2 }],
    [['--http-address=[::]'], { httpAddress: '::' }],
    [['--grpc-address=localhost'], { grpcAddress: 'localhost' }],
    [['--allow-http=false'], { allowHttp: false }],
    [['--allow-http', 'false', '--allow-grpc'], { allowHttp: false, allowGrpc: true }],
    [['--allow-metrics=0'], { allowMetrics: false }],
    [['--allow-metrics=OFF'], { allowMetrics: false }],
    [['--allow-metrics', 'no'], { allowMetrics: false }],
    [['--exit-on-error'], { exitOnError: true }],
    [['--exit-on-error=on'], { exitOnError: true }],
    [['--strict-model-config=true'], { disableAutoCompleteConfig: true }],
    [['--model-store', place], { modelRepository: [place] }],
    [['--model-repository', place, `--model-store=${tmpdir()}`], { modelRepository: [place, tmpdir()] }],
    [['--model-control-mode=none'], { modelControlMode: 'none' }],
    [[], { backendConfig: {} }],
    [
      ['--backend-config=onnxruntime,default-max-batch-size=4'],
      { backendConfig: { onnxruntime: { 'default-max-batch-size': '4' } } },
    ],
    [
      ['--backend-config', 'default-max-batch-size=0'],
      { backendConfig: { onnxruntime: { 'default-max-batch-size': '0' } } },
    ],
    [
      ['--backend-config=onnxruntime,a.b=x=y', '--backend-config=onnxruntime,c=1', '--backend-config=onnxruntime,c=2'],
      { backendConfig: { onnxruntime: { 'a.b': 'x=y', c: '2' } } },
    ],
    [
      ['--http-cors-origin=https://a.example', '--http-cors-origin=http://b.example:81'],
      { httpCorsOrigin: ['https://a.example', 'http://b.example:81'] },
    ],
    [['--http-cors-origin=*'], { httpCorsOrigin: ['*'] }],
    [['--log-verbose=1'], { logLevel: 'debug' }],
    [['--log-verbose=3', '--log-level=error'], { logLevel: 'trace' }],
    [['--log-level=WARN'], { logLevel: 'warn' }],
    [
      ['--grpc-use-ssl=1', `--grpc-server-cert=${pem}`, `--grpc-server-key=${pem}`],
      { grpcUseSsl: true, grpcServerCert: pem },
    ],
    [
      ['--http-use-ssl-mutual', ...['server-cert', 'server-key', 'root-cert'].map((end) => `--http-${end}=${pem}`)],
      { httpUseSslMutual: true, httpRootCert: pem },
    ],
    [['--allow-http=false', '--grpc-port=8000'], { grpcPort: 8000 }],
    [['--http-port=0', '--grpc-port=0', '--metrics-port=0'], { metricsPort: 0 }],
    [['--http-address=127.0.0.1', '--grpc-address=127.0.0.2', '--grpc-port=8000'], { grpcPort: 8000 }],
  ])('%j', (argv, expected) => {
    expect(parseConfig(argv, {})).toMatchObject(expected);
  });

  test('what the Triton runtime of KServe passes is accepted as it stands', () => {
    const argv = [
      `--model-store=${place}`,
      '--grpc-port=9000',
      '--http-port=8080',
      '--allow-grpc=true',
      '--allow-http=true',
    ];
    expect(parseConfig(argv, {})).toMatchObject({ modelRepository: [place], grpcPort: 9000, httpPort: 8080 });
  });
});

describe('values that are refused in one line', () => {
  test.each<[string[], string]>([
    [['--http-port=abc'], 'option --http-port: "abc" must be a port from 0 to 65535 (0 takes any free one)'],
    [['--http-port', '65536'], 'option --http-port: "65536" must be a port from 0 to 65535 (0 takes any free one)'],
    [['--grpc-port', '-1'], 'option --grpc-port: "-1" must be a port from 0 to 65535 (0 takes any free one)'],
    [['--http-port='], 'option --http-port: "" must be a port from 0 to 65535 (0 takes any free one)'],
    [['--http-port'], 'option --http-port needs a value: <port>'],
    [['--worker-count=257'], 'option --worker-count: "257" must be a whole number from 0 to 256'],
    [['--worker-count=1.5'], 'option --worker-count: "1.5" must be a whole number from 0 to 256'],
    [['--worker-count=1e2'], 'option --worker-count: "1e2" must be a whole number from 0 to 256'],
    [['--grpc-max-input-size=0'], 'option --grpc-max-input-size: "0" must be a whole number from 1 to 2147483647'],
    [['--allow-http=maybe'], 'option --allow-http: "maybe" must be true or false'],
    [['--log-format=xml'], 'option --log-format: "xml" must be one of auto, text, json'],
    [['--model-control-mode=explicit'], 'option --model-control-mode: "explicit" must be none'],
    [['--http-address=1.2.3'], 'option --http-address: "1.2.3" must be an IP address or a host name, without a port'],
    [['--http-address=a:80'], 'option --http-address: "a:80" must be an IP address or a host name, without a port'],
    [['--id='], 'option --id: "" must be a line of text, not empty'],
    [['--id=a\nb'], 'option --id: "a\\nb" must be a line of text, not empty'],
    [
      ['--http-server-key=/absent.pem'],
      'option --http-server-key: "/absent.pem" must be a readable file, but is not there',
    ],
    [
      ['--model-repository', place, '--model-repository', pem],
      `option --model-repository: "${pem}" must be a readable local directory, but is a file`,
    ],
    [
      ['--model-cache-directory', pem],
      `option --model-cache-directory: "${pem}" must be a directory to write in, but is a file`,
    ],
    [
      ['--http-cors-origin=https://a.example/'],
      'option --http-cors-origin: "https://a.example/" must be * or an origin such as https://example.org (scheme, host and port, nothing more)',
    ],
    [['--backend-config=onnxruntime'], 'option --backend-config: "onnxruntime" must be onnxruntime,<name>=<value>'],
    [
      ['--backend-config=tensorflow,a=1'],
      'option --backend-config: "tensorflow,a=1" must be for the backend onnxruntime, the only one there is: onnxruntime,<name>=<value>',
    ],
    [
      ['--backend-config=onnxruntime,default-max-batch-size=-4'],
      'option --backend-config: "onnxruntime,default-max-batch-size=-4" must set default-max-batch-size to a whole number from 0 to 999999',
    ],
    [['--grpc-use-ssl'], 'option --grpc-use-ssl: true needs --grpc-server-cert <file> too'],
    [
      ['--http-use-ssl-mutual', `--http-server-cert=${pem}`, `--http-server-key=${pem}`],
      'option --http-use-ssl-mutual: true needs --http-root-cert <file> too',
    ],
    [[`--http-server-cert=${pem}`], `option --http-server-cert: "${pem}" is of no use without --http-use-ssl`],
    [
      ['--grpc-use-ssl', ...['server-cert', 'server-key', 'root-cert'].map((end) => `--grpc-${end}=${pem}`)],
      `option --grpc-root-cert: "${pem}" is of no use without --grpc-use-ssl-mutual`,
    ],
    [['--grpc-port=8000'], 'option --grpc-port: 8000 is also that of --http-port; each needs its own'],
    [['--htp-port=80'], 'option "--htp-port" is unknown; did you mean --http-port?'],
    [['--allow-htp'], 'option "--allow-htp" is unknown; did you mean --allow-http?'],
    [['--zzzzzzzzzz'], 'option "--zzzzzzzzzz" is unknown; see --help for those there are'],
    [['models'], 'argument "models" is not expected: options start with -- (see --help)'],
  ])('%j', (argv, expected) => {
    expect(complaint(argv)).toBe(expected);
  });

  test('a very long value is cut', () => {
    expect(complaint([`--http-port=${'9'.repeat(10_000)}`]).length).toBeLessThan(400);
  });
});

describe('environment', () => {
  test('every option can come from its variable', () => {
    for (const [field, { kind, fallback }] of Object.entries(OPTIONS)) {
      const { placeholder } = kind;
      const sample = placeholder === '[bool]' ? String(!fallback) : placeholder === '<port>' ? '1' : '2097152';
      let outcome: unknown;
      try {
        outcome = parseConfig([], { [variable(field)]: sample })[field as keyof typeof OPTIONS];
      } catch (error) {
        outcome = (error as Error).message;
      }
      // Taken, or refused in its own name: either way the variable was read.
      if (typeof outcome === 'string' && outcome.startsWith('option')) expect(outcome).toContain(`--${kebab(field)}`);
      else expect(outcome).not.toEqual(fallback);
    }
  });

  test('the command line wins over the environment', () => {
    expect(parseConfig(['--http-port=1'], { TENSORWIRE_HTTP_PORT: '2' }).httpPort).toBe(1);
    expect(parseConfig([], { TENSORWIRE_HTTP_PORT: '2' }).httpPort).toBe(2);
  });

  test('a repeatable option takes several values from one variable', () => {
    const env = { TENSORWIRE_MODEL_REPOSITORY: `${place};${tmpdir()}` };
    expect(parseConfig([], env).modelRepository).toEqual([place, tmpdir()]);
  });

  test('a bad value is refused in the name of the variable', () => {
    expect(complaint([], { TENSORWIRE_HTTP_PORT: 'x' })).toBe(
      'option --http-port: "x" from TENSORWIRE_HTTP_PORT must be a port from 0 to 65535 (0 takes any free one)',
    );
  });

  test('an empty variable is as good as none', () => {
    expect(parseConfig([], { TENSORWIRE_HTTP_PORT: '', TENSORWIRE_ID: '' })).toMatchObject({
      httpPort: 8000,
      id: 'tensorwire',
    });
  });

  test('what Kubernetes sets for a service of the same name is neither taken nor complained about', () => {
    const env = {
      TENSORWIRE_HTTP_PORT: 'tcp://10.0.0.7:8000',
      TENSORWIRE_HTTP_SERVICE_HOST: '10.0.0.7',
      TENSORWIRE_HTTP_SERVICE_PORT: '8000',
      TENSORWIRE_PORT: 'tcp://10.0.0.7:8000',
      TENSORWIRE_HTTP_PORT_8000_TCP_ADDR: '10.0.0.7',
    };
    expect(parseConfig([], env)).toMatchObject({ httpPort: 8000, warnings: [] });
  });

  test('a variable that belongs to no option is worth a warning', () => {
    expect(parseConfig([], { TENSORWIRE_HTPP_ADDRESS: '::1', OTHER: '1' }).warnings).toEqual([
      'TENSORWIRE_HTPP_ADDRESS is set, but no option is called that; see --help',
    ]);
  });
});

describe('answers', () => {
  function answer(argv: string[]): string {
    try {
      parseConfig(argv, {});
    } catch (error) {
      if (error instanceof ConfigAnswer) return error.text;
      throw error;
    }
    throw new Error('a configuration, not an answer');
  }

  test('--help lists every option with its variable, its default and its aliases', () => {
    const help = answer(['--help']).replaceAll(/\s+/g, ' ');
    for (const [field, row] of Object.entries(OPTIONS)) {
      expect(help).toContain(` --${kebab(field)} ${row.kind.placeholder} `);
      expect(help).toContain(`env: ${variable(field)}`);
    }
    expect(help).toContain('default: 8001');
    expect(help).toContain('also --model-store');
    expect(help).not.toContain('undefined');
  });

  test('--help answers even beside a bad value', () => {
    expect(answer(['--http-port=abc', '--help'])).toContain('--http-port');
  });

  test('--version names the version of the package', () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'));
    expect(answer(['--version'])).toBe(`tensorwire ${version}\n`);
    expect(packageVersion()).toBe(version);
  });
});
