/**
 * Rows of tokens written out as the tensors that a model takes: ids, mask, types and positions, padded to the longest row.
 *
 * Called by workers/text.ts. All tensors of a request lie in one buffer, so that it is moved in one piece.
 */
import type { PreparedTensor, TextSpec, TokenRole } from '#src/runtime/preprocess-messages';
import type { TokenRow } from './token-template.js';

type Layout = Pick<TextSpec, 'tensors' | 'paddingSide' | 'padTokenId' | 'padTokenTypeId'>;

/** The tensors of `rows`, each [rows, longest]. */
export function textTensors(rows: readonly TokenRow[], longest: number, layout: Layout): PreparedTensor[] {
  const count = rows.length * longest;
  let bytes = 0;
  for (const { datatype } of layout.tensors) bytes += count * byteSize(datatype);
  const memory = new ArrayBuffer(bytes);
  // 64-bit ones first: each then starts at a multiple of its element size, whatever follows.
  const order = [...layout.tensors].sort((a, b) => byteSize(b.datatype) - byteSize(a.datatype));
  let at = 0;
  const offsets = new Map<string, number>();
  for (const { name, role, datatype } of order) {
    offsets.set(name, at);
    const target = datatype === 'INT64' ? new Int32Array(memory, at, 2 * count) : new Int32Array(memory, at, count);
    fill(target, datatype === 'INT64' ? 2 : 1, { rows, longest, role, layout });
    at += count * byteSize(datatype);
  }
  return layout.tensors.map(({ name, datatype }) => ({
    name,
    datatype,
    dims: [rows.length, longest],
    data: new Uint8Array(memory, offsets.get(name), count * byteSize(datatype)),
  }));
}

const byteSize = (datatype: 'INT64' | 'INT32'): number => (datatype === 'INT64' ? 8 : 4);

interface Rows {
  readonly rows: readonly TokenRow[];
  readonly longest: number;
  readonly role: TokenRole;
  readonly layout: Layout;
}

/** Writes every `stride`th element: of 64 bits the lower half, little-endian; none of these numbers is negative or that large. */
function fill(target: Int32Array, stride: number, { rows, longest, role, layout }: Rows): void {
  const padding = role === 'input_ids' ? layout.padTokenId : role === 'token_type_ids' ? layout.padTokenTypeId : 0;
  rows.forEach(({ ids, typeIds }, row) => {
    const start = row * longest + (layout.paddingSide === 'left' ? longest - ids.length : 0);
    if (padding !== 0 && ids.length < longest)
      for (let i = row * longest; i < (row + 1) * longest; i++) target[i * stride] = padding;
    for (let i = 0; i < ids.length; i++) {
      const value =
        role === 'input_ids' ? ids[i]! : role === 'token_type_ids' ? typeIds[i]! : role === 'position_ids' ? i : 1;
      target[(start + i) * stride] = value;
    }
  });
}
