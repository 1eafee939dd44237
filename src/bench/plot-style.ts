/**
 * Colours and shapes of the plots: each arm, phase and way looks the same wherever it is drawn.
 *
 * Called by the plots. Pure. The palette is Okabe and Ito's, told apart by colour-blind eyes; shapes and dashes say it a second time.
 */
import type { ArmSpec, Encoding, PhaseResult, StreamResult } from './results.js';

export const INK = '#1a1a1a';
export const FAINT_INK = '#595959';
export const GRID = '#e3e3e3';
export const PAPER = '#ffffff';

const BLACK = '#000000';
const ORANGE = '#e69f00';
const SKY = '#56b4e9';
const GREEN = '#009e73';
const YELLOW = '#f0e442';
const BLUE = '#0072b2';
const VERMILION = '#d55e00';
const PURPLE = '#cc79a7';

/** REST is warm, gRPC is cool. */
const ENCODING_COLOURS: Record<Encoding, string> = {
  rest_json: VERMILION,
  rest_binary: ORANGE,
  grpc_raw: BLUE,
  grpc_typed: SKY,
};

/** The colour of an arm; compressed, it is dashed and hollow in the same one. */
export function armColour({ encoding }: ArmSpec): string {
  return ENCODING_COLOURS[encoding] ?? BLACK;
}

export type MarkerShape = 'circle' | 'square' | 'triangle' | 'diamond';

const ENCODING_SHAPES: Record<Encoding, MarkerShape> = {
  rest_json: 'circle',
  rest_binary: 'square',
  grpc_raw: 'triangle',
  grpc_typed: 'diamond',
};

export function armShape({ encoding }: ArmSpec): MarkerShape {
  return ENCODING_SHAPES[encoding] ?? 'circle';
}

export const WAY_COLOURS: Record<StreamResult['way'], string> = {
  grpc_stream: BLUE,
  sse: VERMILION,
  sse_openai: ORANGE,
  request_per_token_grpc: SKY,
  request_per_token_rest: PURPLE,
};

/** Phases that are drawn as one; in the order of the legend, which is that of time. */
export const PHASE_KINDS = {
  clientEncode: { label: 'client encode', fill: BLUE },
  send: { label: 'send', fill: '#8c8c8c' },
  receive: { label: 'server receive', fill: YELLOW },
  serverDecode: { label: 'server decode', fill: VERMILION },
  serverOther: { label: 'server checks, queue, hand-over', fill: PURPLE },
  compute: { label: 'compute', fill: GREEN },
  serverEncode: { label: 'server encode', fill: ORANGE },
  transit: { label: 'transit: seen by neither side', fill: 'url(#transit)' },
  unseen: { label: 'server and transit: the server tells no phases', fill: 'url(#transit)' },
  read: { label: 'read', fill: '#c4c4c4' },
  clientDecode: { label: 'client decode', fill: SKY },
  retry: { label: 'earlier tries', fill: BLACK },
  rest: { label: 'not in any phase', fill: 'url(#rest)' },
} as const;
export type PhaseKind = keyof typeof PHASE_KINDS;

const CLIENT_KINDS: Readonly<Record<string, PhaseKind>> = {
  retry: 'retry',
  encode: 'clientEncode',
  send: 'send',
  read: 'read',
  decode: 'clientDecode',
};
const SERVER_KINDS: Readonly<Record<string, PhaseKind>> = {
  receive: 'receive',
  decode: 'serverDecode',
  prefill: 'compute',
  compute: 'compute',
  encode: 'serverEncode',
};

/** Another server's phases may have other names: theirs are the server's other work. */
export function phaseKind({ side, name }: PhaseResult): PhaseKind {
  if (side === 'between') return 'transit';
  if (side === 'client') return CLIENT_KINDS[name] ?? 'rest';
  return SERVER_KINDS[name] ?? 'serverOther';
}
