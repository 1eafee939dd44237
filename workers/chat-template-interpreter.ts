/**
 * The interpreter of chat templates with what published ones use beyond @huggingface/jinja: lists picked by a test (`reject`, `select`),
 * filters applied to each (`map('trim')`), and values printed as Python prints them.
 *
 * Called by workers/chat-template.ts. The package has no register of filters; its interpreter may be extended, and comes to each expression
 * by `evaluate`. What it knows itself stays its own: items and tests are given to it as variables.
 */
import { Environment, Interpreter } from '@huggingface/jinja';
import { type TemplateValue, textOf } from './chat-template-python.js';

/** Of the parsed template. */
interface Node {
  readonly type: string;
}

/** The package's types are lost where modules are resolved as Node does it. */
const PackageInterpreter = Interpreter as unknown as new (
  environment: Environment,
) => {
  run(program: Node): TemplateValue;
  evaluate(node: Node | undefined, environment: Environment): TemplateValue;
};

/** `operand | name` or `operand | name(args)`. */
interface FilterNode extends Node {
  readonly operand: Node;
  readonly filter: Node & {
    readonly value?: string;
    readonly callee?: { readonly value: string };
    readonly args?: Node[];
  };
}

interface BinaryNode extends Node {
  readonly operator: { readonly value: string };
  readonly left: Node;
  readonly right: Node;
}

/** Names that no template can write. */
const PRINT = ' print';
const ITEM = ' item';
const item = { type: 'Identifier', value: ITEM };

/** Tests with an argument, by the operator that they are. */
const OPERATORS: ReadonlyMap<string, string> = new Map([
  ['in', 'in'],
  ...['eq', 'equalto', '=='].map((name): [string, string] => [name, '==']),
  ...['ne', '!='].map((name): [string, string] => [name, '!=']),
  ...['lt', 'lessthan', '<'].map((name): [string, string] => [name, '<']),
  ...['gt', 'greaterthan', '>'].map((name): [string, string] => [name, '>']),
  ...['le', '<='].map((name): [string, string] => [name, '<=']),
  ...['ge', '>='].map((name): [string, string] => [name, '>=']),
]);

export class TemplateInterpreter extends PackageInterpreter {
  override evaluate(node: Node | undefined, environment: Environment): TemplateValue {
    if (node?.type === 'FilterExpression') {
      return this.#filtered(node as FilterNode, environment) ?? super.evaluate(node, environment);
    }
    if (node?.type === 'BinaryExpression' && (node as BinaryNode).operator.value === '~') {
      const { left, right } = node as BinaryNode;
      return value(joinable(this.evaluate(left, environment)) + joinable(this.evaluate(right, environment)));
    }
    return super.evaluate(node, environment);
  }

  /** Undefined for filters that are the package's own. */
  #filtered({ operand, filter }: FilterNode, environment: Environment): TemplateValue | undefined {
    const args = filter.args ?? [];
    const given = (): TemplateValue => this.evaluate(operand, environment);
    switch (filter.value ?? filter.callee?.value) {
      case PRINT:
        return printed(given());
      case 'string':
        return value(textOf(given()));
      case 'list':
        return list(itemsOf(given(), 'list'));
      case 'map':
        // By an attribute.
        if (args[0] === undefined || args[0].type === 'KeywordArgumentExpression') return undefined;
        return this.#map(given(), args[0], args.slice(1), environment);
      case 'select':
        return this.#pick(true, given(), args, environment);
      case 'reject':
        return this.#pick(false, given(), args, environment);
      default:
        return undefined;
    }
  }

  #map(operand: TemplateValue, name: Node, args: readonly Node[], environment: Environment): TemplateValue {
    const callee = { type: 'Identifier', value: this.#nameOf(name, environment) };
    const filter = args.length > 0 ? { type: 'CallExpression', callee, args } : callee;
    const node = { type: 'FilterExpression', operand: item, filter };
    return list(itemsOf(operand, 'map').map((each) => this.#of(each, node, environment)));
  }

  #pick(wanted: boolean, operand: TemplateValue, args: readonly Node[], environment: Environment): TemplateValue {
    const [test, argument] = args;
    const name = test && this.#nameOf(test, environment);
    const operator = name === undefined || argument === undefined ? undefined : OPERATORS.get(name);
    if (argument !== undefined && operator === undefined) throw new Error(`Unknown test: ${name}`);
    const node =
      operator !== undefined
        ? { type: 'BinaryExpression', operator: { value: operator }, left: item, right: argument }
        : { type: 'TestExpression', operand: item, negate: false, test: { type: 'Identifier', value: name } };
    const picked = itemsOf(operand, wanted ? 'select' : 'reject').filter((each) => {
      const answer = name === undefined ? each : this.#of(each, node, environment);
      return answer.__bool__().value === wanted;
    });
    return list(picked);
  }

  /** What `node` gives that says {@link ITEM} for `each`. */
  #of(each: TemplateValue, node: Node, environment: Environment): TemplateValue {
    const scope = new Environment(environment);
    scope.setVariable(ITEM, each);
    return this.evaluate(node, scope);
  }

  #nameOf(node: Node, environment: Environment): string {
    return textOf(this.evaluate(node, environment));
  }
}

/** The package exports none of its values; what it makes of ours is one. */
const value = (of: unknown): TemplateValue => new Environment().set(ITEM, of);

function list(items: readonly TemplateValue[]): TemplateValue {
  const made = value([]);
  for (const each of items) (made.value as TemplateValue[]).push(each);
  return made;
}

function itemsOf(operand: TemplateValue, filter: string): readonly TemplateValue[] {
  switch (operand.type) {
    case 'ArrayValue':
    case 'TupleValue':
      return operand.value as readonly TemplateValue[];
    case 'ObjectValue':
      return Array.from((operand.value as ReadonlyMap<string, unknown>).keys(), value);
    case 'StringValue':
      return Array.from(operand.value as string, value);
    case 'UndefinedValue':
      return [];
    default:
      throw new Error(`Cannot apply filter "${filter}" to type: ${operand.type}`);
  }
}

/** Of what the package prints otherwise than Python; texts, which nearly all are, stay as they are. */
function printed(given: TemplateValue): TemplateValue {
  switch (given.type) {
    case 'StringValue':
    case 'IntegerValue':
    case 'UndefinedValue':
      return given;
    default:
      return value(textOf(given));
  }
}

/** A mapping stays what chat-template-calls.ts knows it by. */
const joinable = (given: TemplateValue): string => (given.type === 'ObjectValue' ? String(given.value) : textOf(given));

/** Statements that hold others, and where. */
const BLOCKS = ['body', 'alternate', 'defaultBlock'] as const;
const PRINTED = new Set(['Identifier', 'Ternary', 'ArrayLiteral', 'TupleLiteral', 'ObjectLiteral', 'FloatLiteral']);

/** `program`, changed so that what it prints goes through {@link TemplateInterpreter}. */
export function withPrints<Program extends Node>(program: Program): Program {
  printsOf(program);
  return program;
}

function printsOf(node: Node & { [Block in (typeof BLOCKS)[number]]?: unknown }): void {
  for (const block of BLOCKS) {
    const statements = node[block];
    if (!Array.isArray(statements)) continue;
    for (const [at, statement] of (statements as Node[]).entries()) {
      if (PRINTED.has(statement.type) || statement.type.endsWith('Expression')) {
        statements[at] = { type: 'FilterExpression', operand: statement, filter: { type: 'Identifier', value: PRINT } };
      } else printsOf(statement);
    }
  }
}
