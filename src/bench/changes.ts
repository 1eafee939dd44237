/**
 * What leaving JSON brings without leaving REST, and what leaving REST brings on top.
 *
 * Called by the verdict. Pure.
 */
import type { CellGroup, Payload } from './cells.js';
import { armName, type CellResult, type Load } from './results.js';

/** A step from one arm to another; below 0 it costs. */
export interface Step {
  readonly from: string;
  readonly to: string;
  readonly savedMs: number;
  /** Of the median latency of `from`. */
  readonly savedShare: number;
}

export interface Change {
  readonly model: string;
  readonly payload: Payload;
  readonly load: Load;
  /** JSON to binary tensors, still REST; undefined where the server has no binary tensors or the run left them out. */
  readonly encoding: Step | undefined;
  /** REST to gRPC with the tensors' encoding the same. */
  readonly protocol: Step | undefined;
  /** Both at once: REST JSON to gRPC raw. */
  readonly both: Step | undefined;
  /** Part of what both save that the encoding alone saves; undefined where both save nothing. */
  readonly encodingPart: number | undefined;
}

/** Undefined for a group in which nothing can be compared. */
export function changesOf({ model, payload, load, cells }: CellGroup): Change | undefined {
  const cellOf = (name: string) => cells.find(({ arm }) => armName(arm) === name);
  const [json, binary, raw] = ['rest_json', 'rest_binary', 'grpc_raw'].map(cellOf);
  const [encoding, protocol, both] = [step(json, binary), step(binary, raw), step(json, raw)];
  if (!encoding && !protocol && !both) return undefined;
  return {
    model,
    payload,
    load,
    encoding,
    protocol,
    both,
    encodingPart: encoding && both && both.savedMs > 0 ? encoding.savedMs / both.savedMs : undefined,
  };
}

function step(from: CellResult | undefined, to: CellResult | undefined): Step | undefined {
  if (!from || !to) return undefined;
  const savedMs = from.p50Ms.value - to.p50Ms.value;
  return { from: armName(from.arm), to: armName(to.arm), savedMs, savedShare: savedMs / from.p50Ms.value };
}
