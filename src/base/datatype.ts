/**
 * The tensor datatypes of the Open Inference Protocol, and what each is called by Triton's config and by ONNX Runtime.
 *
 * Called by every layer. Owns the one table; must not know a protocol's wire form beyond the element size.
 */

/** A datatype name as the Open Inference Protocol writes it. */
export type Datatype =
  | 'BOOL'
  | 'UINT8'
  | 'UINT16'
  | 'UINT32'
  | 'UINT64'
  | 'INT8'
  | 'INT16'
  | 'INT32'
  | 'INT64'
  | 'FP16'
  | 'BF16'
  | 'FP32'
  | 'FP64'
  | 'BYTES';

export interface DatatypeInfo {
  /** Bytes of one element; 0 for BYTES, whose elements each carry a 4-byte little-endian length before them. */
  readonly byteSize: number;
  /** Label of Triton's `model_config.proto` enum `DataType`. */
  readonly configName: string;
  /** Tensor type of ONNX Runtime's JavaScript API; undefined where that API has none. */
  readonly ortType: string | undefined;
}

export const DATATYPES: Readonly<Record<Datatype, DatatypeInfo>> = {
  BOOL: { byteSize: 1, configName: 'TYPE_BOOL', ortType: 'bool' },
  UINT8: { byteSize: 1, configName: 'TYPE_UINT8', ortType: 'uint8' },
  UINT16: { byteSize: 2, configName: 'TYPE_UINT16', ortType: 'uint16' },
  UINT32: { byteSize: 4, configName: 'TYPE_UINT32', ortType: 'uint32' },
  UINT64: { byteSize: 8, configName: 'TYPE_UINT64', ortType: 'uint64' },
  INT8: { byteSize: 1, configName: 'TYPE_INT8', ortType: 'int8' },
  INT16: { byteSize: 2, configName: 'TYPE_INT16', ortType: 'int16' },
  INT32: { byteSize: 4, configName: 'TYPE_INT32', ortType: 'int32' },
  INT64: { byteSize: 8, configName: 'TYPE_INT64', ortType: 'int64' },
  FP16: { byteSize: 2, configName: 'TYPE_FP16', ortType: 'float16' },
  // onnxruntime-node 1.30 has no bfloat16 tensor ("Unsupported tensor type: bfloat16").
  BF16: { byteSize: 2, configName: 'TYPE_BF16', ortType: undefined },
  FP32: { byteSize: 4, configName: 'TYPE_FP32', ortType: 'float32' },
  FP64: { byteSize: 8, configName: 'TYPE_FP64', ortType: 'float64' },
  BYTES: { byteSize: 0, configName: 'TYPE_STRING', ortType: 'string' },
};

/** Datatype of an ONNX Runtime tensor type name, or undefined where the protocol has none. */
export function datatypeOfOrt(ortType: string): Datatype | undefined {
  for (const name of Object.keys(DATATYPES) as Datatype[]) if (DATATYPES[name].ortType === ortType) return name;
  return undefined;
}

/** Datatype of a Triton config label such as `TYPE_FP32`, or undefined (`TYPE_INVALID`, unknown). */
export function datatypeOfConfig(configName: string): Datatype | undefined {
  for (const name of Object.keys(DATATYPES) as Datatype[]) if (DATATYPES[name].configName === configName) return name;
  return undefined;
}
