/**
 * The certificates and keys that the options name, read and tried before anything else starts: what is wrong with them is then one
 * line that names the option, and no half-started server.
 *
 * Called by `server.ts`. That the files are there, and named where they are needed, is a rule of the options (`base/config.ts`).
 */
import { readFileSync } from 'node:fs';
import { createSecureContext, type SecureContextOptions } from 'node:tls';
import { type Config, ConfigError } from './base/config.js';

/** PEM. */
export interface TlsFiles {
  readonly cert: Buffer;
  readonly key: Buffer;
  /** Authorities that client certificates must come from. */
  readonly ca?: Buffer;
  /** Clients must show a certificate. */
  readonly mutual: boolean;
}

/** What a port needs for TLS, or undefined where it is not asked for. Throws ConfigError. */
export function readTlsFiles(config: Config, protocol: 'http' | 'grpc'): TlsFiles | undefined {
  const mutual = config[`${protocol}UseSslMutual`];
  if (!config[`${protocol}UseSsl`] && !mutual) return undefined;
  const [certFile, keyFile] = [config[`${protocol}ServerCert`]!, config[`${protocol}ServerKey`]!];
  const rootFile = config[`${protocol}RootCert`];
  const [cert, key] = [readFileSync(certFile), readFileSync(keyFile)];
  const ca = rootFile === undefined ? undefined : readFileSync(rootFile);
  attempt({ cert }, `--${protocol}-server-cert: "${certFile}" must be a PEM certificate chain`);
  attempt({ key }, `--${protocol}-server-key: "${keyFile}" must be a PEM private key without a passphrase`);
  attempt({ cert, key }, `--${protocol}-server-key: "${keyFile}" must be the key of the certificate "${certFile}"`);
  if (ca) attempt({ ca }, `--${protocol}-root-cert: "${rootFile}" must be PEM certificates`);
  return { cert, key, ...(ca && { ca }), mutual };
}

function attempt(options: SecureContextOptions, rule: string): void {
  try {
    createSecureContext(options);
  } catch (error) {
    // OpenSSL's words after its numbers: "error:0480006C:PEM routines::no start line".
    const reason = (error as Error).message.replace(/^error:[0-9A-F]+:/i, '').replace('::', ': ');
    throw new ConfigError(`option ${rule} (${reason})`);
  }
}
