/**
 * Looks through an ONNX file before ONNX Runtime does, for what ONNX Runtime can't be trusted with.
 *
 * Integer `Div` and `Mod` of ONNX Runtime's CPU provider end the process (SIGFPE) when the smallest INT32 or INT64 meets -1; both may come
 * from a request. 8 and 16-bit integers are computed in 32 bits, and Mod with fmod = 1 in floating point: measured harmless.
 *
 * Called by `session.ts` in a worker. Reads the graph, never the weights.
 */
import {
  ELEMENT,
  type FunctionSkeleton,
  type GraphSkeleton,
  type ModelSkeleton,
  type NodeSkeleton,
  readOnnx,
} from './onnx-graph.js';
import { attribute, type Known, mayHold, outputOf, UNKNOWN } from './onnx-types.js';
import { badModel } from './wire-reader.js';

/** Functions calling functions beyond this depth, or more nodes seen through calls than this, are refused. */
const MAX_CALL_DEPTH = 64;
const MAX_CALLED_NODES = 1_000_000;

export { assertExternalDataInside } from './external-data.js';

export interface IntegerDivision {
  readonly op: 'Div' | 'Mod';
  /** Name of the node, or of its first output where it has none; text from the file, as it stands there. */
  readonly node: string;
}

export interface OnnxScan {
  /**
   * Divisions of INT32 or INT64 in which the smallest integer may meet -1. Left out are those by sizes or by constants without
   * -1, and those of sizes or of constants without the smallest integer. A division of unknown type counts when all
   * inputs of the model are integers.
   */
  readonly integerDivision: readonly IntegerDivision[];
  /** Names of what a run must or may be given, and of what it gives; constants are none of them. */
  readonly inputs: readonly string[];
  readonly outputs: readonly string[];
  /** Locations of external data, relative to the model's file, as the file gives them. */
  readonly externalData: readonly string[];
  readonly producer: string;
  /** Version of the default operator set; 0 when the file names none. */
  readonly opset: number;
}

/** Throws ServeError INVALID_ARGUMENT for bytes that are no ONNX model. Time goes with the graph, not with its weights. */
export function scanModel(bytes: Uint8Array): OnnxScan {
  const model = readOnnx(bytes);
  const divisions = new Map<NodeSkeleton, IntegerDivision>();
  new GraphScan(model, divisions).graph(model.graph, undefined, []);
  const constants = new Set(model.graph.initializers.map(({ name }) => name));
  return {
    integerDivision: [...divisions.values()],
    inputs: model.graph.inputs.map(({ name }) => name).filter((name) => !constants.has(name)),
    outputs: model.graph.outputs.map(({ name }) => name),
    externalData: model.externalData,
    producer: model.producer,
    opset: model.opset,
  };
}

/** Values by name; a subgraph also sees those around it. */
class Scope {
  private readonly values = new Map<string, Known>();
  private readonly outer: Scope | undefined;

  constructor(outer?: Scope) {
    this.outer = outer;
  }

  set(name: string, known: Known): void {
    this.values.set(name, known);
  }

  get(name: string): Known {
    return this.values.get(name) ?? this.outer?.get(name) ?? UNKNOWN;
  }
}

class GraphScan {
  private readonly divisions: Map<NodeSkeleton, IntegerDivision>;
  private readonly functions = new Map<string, FunctionSkeleton>();
  /** Results by function and input types, so that functions calling functions cost no more than there are. */
  private readonly calls = new Map<string, readonly Known[]>();
  private readonly unknownIsInteger: boolean;
  private callDepth = 0;
  private calledNodes = 0;

  constructor(model: ModelSkeleton, divisions: Map<NodeSkeleton, IntegerDivision>) {
    this.divisions = divisions;
    for (const f of model.functions) this.functions.set(functionKey(f.domain, f.name, f.overload), f);
    const constants = new Set(model.graph.initializers.map(({ name }) => name));
    const inputs = model.graph.inputs.filter(({ name }) => !constants.has(name));
    this.unknownIsInteger = inputs.length > 0 && inputs.every(({ elementType }) => isInteger(elementType));
  }

  /** Scans a graph whose inputs are the arguments, if it is a body; returns what is known of its outputs. */
  graph(graph: GraphSkeleton, outer: Scope | undefined, args: readonly Known[]): readonly Known[] {
    const scope = new Scope(outer);
    for (const tensor of graph.initializers)
      scope.set(tensor.name, { type: tensor.elementType || undefined, constant: tensor });
    // An initializer that is an input too is a default, which a request may replace.
    for (const [i, { name, elementType }] of graph.inputs.entries()) {
      scope.set(name, { type: elementType || args[i]?.type || scope.get(name).type });
    }
    const declared = new Map<string, number>();
    for (const { name, elementType } of [...graph.valueInfo, ...graph.outputs]) {
      if (elementType !== 0) declared.set(name, elementType);
    }
    for (const node of graph.nodes) this.node(node, scope, declared);
    return graph.outputs.map(({ name }) => scope.get(name));
  }

  private node(node: NodeSkeleton, scope: Scope, declared: ReadonlyMap<string, number>): void {
    const inputs = node.inputs.map((name) => (name === '' ? UNKNOWN : scope.get(name)));
    if (isDivision(node) && this.isDangerous(node, inputs)) {
      this.divisions.set(node, { op: node.op as 'Div' | 'Mod', node: node.name || (node.outputs[0] ?? '') });
    }
    const inner = this.innerOutputs(node, scope, inputs);
    for (const [i, name] of node.outputs.entries()) {
      const known = inner === undefined ? outputOf(node, inputs, i) : (inner[i] ?? UNKNOWN);
      scope.set(name, declared.has(name) ? { ...known, type: declared.get(name) } : known);
    }
  }

  /** What subgraphs or a function make of the outputs; only types, as a loop may change its values. Undefined for other nodes. */
  private innerOutputs(node: NodeSkeleton, scope: Scope, inputs: readonly Known[]): readonly Known[] | undefined {
    const definition = this.functions.get(functionKey(node.domain, node.op, node.overload));
    if (definition !== undefined) return this.call(definition, inputs);
    let results: readonly Known[] | undefined;
    for (const { graphs } of node.attributes) {
      for (const graph of graphs) {
        const outputs = this.graph(graph, scope, node.op === 'If' ? [] : inputs).map(({ type }) => ({ type }));
        // The body of a Loop gives its condition first, which the node does not.
        results ??= node.op === 'Loop' ? outputs.slice(1) : outputs;
      }
    }
    return results;
  }

  private call(definition: FunctionSkeleton, inputs: readonly Known[]): readonly Known[] {
    const types = definition.inputs.map((_, i) => inputs[i]?.type);
    const key = `${functionKey(definition.domain, definition.name, definition.overload)}(${types.join()})`;
    const known = this.calls.get(key);
    if (known !== undefined) return known;
    this.calledNodes += definition.nodes.length + 1;
    if (++this.callDepth > MAX_CALL_DEPTH) throw badModel(`its functions nest deeper than ${MAX_CALL_DEPTH}`);
    if (this.calledNodes > MAX_CALLED_NODES)
      throw badModel(`its functions unfold to more than ${MAX_CALLED_NODES} nodes`);
    // Seen from inside, a function that calls itself gives nothing; ONNX Runtime refuses it anyway.
    this.calls.set(key, []);
    const scope = new Scope();
    for (const [i, name] of definition.inputs.entries()) scope.set(name, { type: types[i] });
    for (const node of definition.nodes) this.node(node, scope, new Map());
    const results = definition.outputs.map((name) => ({ type: scope.get(name).type }));
    this.calls.set(key, results);
    this.callDepth--;
    return results;
  }

  private isDangerous(node: NodeSkeleton, [dividend = UNKNOWN, divisor = UNKNOWN]: readonly Known[]): boolean {
    if (node.op === 'Mod' && attribute(node, 'fmod')?.int) return false;
    const type = dividend.type ?? divisor.type;
    if (type === undefined) return this.unknownIsInteger;
    if (type !== ELEMENT.INT32 && type !== ELEMENT.INT64) return false;
    return mayHold(divisor, type, 'minusOne') && mayHold(dividend, type, 'smallest');
  }
}

function functionKey(domain: string, name: string, overload: string): string {
  return `${domain}\n${name}\n${overload}`;
}

function isDivision(node: NodeSkeleton): boolean {
  return node.domain === '' && (node.op === 'Div' || node.op === 'Mod');
}

function isInteger(elementType: number): boolean {
  return (elementType >= ELEMENT.UINT8 && elementType <= ELEMENT.INT64) || elementType === 12 || elementType === 13;
}
