/**
 * What a caller gives for TLS, looked at before any connection: OpenSSL passes over text without a certificate in it, and what it can't
 * use it would say at each connection only, as if the server were out of reach.
 *
 * Called by `client.ts` for the check, and by the connections of both transports. Must not read files: options hold contents.
 */
import { createSecureContext } from 'node:tls';
import { ClientError, refusal } from './client-error.js';
import type { TlsOptions } from './types.js';

/** The PEMs that are there, as Node takes them. */
export interface Pems {
  readonly ca?: Buffer;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}

export function pemsOf({ ca, cert, key }: TlsOptions): Pems {
  const pem = (value: Uint8Array | string): Buffer => Buffer.from(value as string);
  return {
    ...(ca !== undefined && { ca: pem(ca) }),
    ...(cert !== undefined && { cert: pem(cert) }),
    ...(key !== undefined && { key: pem(key) }),
  };
}

/** Throws a local INVALID_ARGUMENT for what no connection could use. */
export function checkTls(tls: TlsOptions): void {
  if (typeof tls !== 'object' || tls === null) throw refusal(`tls is ${tls}, expected true or an object`);
  for (const name of ['ca', 'cert', 'key'] as const) {
    const pem: unknown = tls[name];
    if (pem !== undefined && typeof pem !== 'string' && !(pem instanceof Uint8Array))
      throw refusal(`tls.${name} is ${pem === null ? 'null' : typeof pem}, expected PEM as a text or bytes`);
  }
  if ((tls.cert === undefined) !== (tls.key === undefined)) {
    const [there, missing] = tls.key === undefined ? ['cert', 'key'] : ['key', 'cert'];
    throw refusal(`tls has a ${there} but no ${missing}, expected both or none`);
  }
  const pems = pemsOf(tls);
  for (const [name, pem] of Object.entries(pems) as [string, Buffer][]) {
    if (!pem.includes('-----BEGIN '))
      throw refusal(`tls.${name} is no PEM, expected what is in the file, not its name`);
  }
  try {
    createSecureContext(pems);
  } catch (cause) {
    const message = `tls: ${cause instanceof Error ? cause.message : 'certificates that can not be used'}`;
    throw new ClientError('INVALID_ARGUMENT', message, { local: true, cause });
  }
}
