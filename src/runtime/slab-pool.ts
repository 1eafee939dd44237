/**
 * Shared memory for batches: a bounded pool of SharedArrayBuffers ("slabs"), leased one at a time.
 *
 *   slab:  | input 0 | input 1 | ... | output 0 | output 1 | ... |      each part at a multiple of 64 bytes
 *          ^ offset 0                                            ^ size class
 *
 * Called by the engine's scheduler. Only main allocates and frees; a lease is lent to one worker between dispatch and result,
 * and main must not touch its bytes in between. Garbage collection does not count shared memory (1,500 short-lived 1 MB ones
 * leave 1.5 GB resident) and a fresh one costs twenty times a pooled one: so they are kept, and their sum is bounded.
 */
import assert from 'node:assert';

/** Bytes from one tensor's start to the next are a multiple of this: a cache line, and more than any element needs. */
export const TENSOR_ALIGNMENT = 64;

/** `bytes` rounded up to the alignment of a tensor. */
export function aligned(bytes: number): number {
  return Math.ceil(bytes / TENSOR_ALIGNMENT) * TENSOR_ALIGNMENT;
}

/** The right to use one slab until it is released. */
export interface Lease {
  readonly slab: number;
  /** All bytes of the slab; as long as its size class, at least what was asked for. */
  readonly bytes: Buffer<SharedArrayBuffer>;
}

export interface SlabPoolOptions {
  /** Bound on the sum of all slabs, leased and free. */
  readonly maxBytes: number;
  /** Tells the workers of a new slab before it is first leased. */
  readonly onCreate: (slab: number, buffer: SharedArrayBuffer) => void;
  /** Tells the workers to forget a slab. */
  readonly onDrop: (slab: number) => void;
  /** Fill released slabs with 0xDD, so that a read after release is seen; for tests. */
  readonly poison?: boolean;
}

const SMALLEST = 64 * 1024;

/** Size classes are four to a doubling: at most a quarter of a slab is never asked for. */
export function sizeClass(bytes: number): number {
  if (bytes <= SMALLEST) return SMALLEST;
  const power = 2 ** Math.floor(Math.log2(bytes));
  for (let quarter = 4; quarter <= 8; quarter++) {
    const size = (power / 4) * quarter;
    if (size >= bytes) return size;
  }
  return power * 2;
}

export class SlabPool {
  readonly #options: SlabPoolOptions;
  /** Free leases by size class, last in first out: the warmest memory is used first. */
  readonly #free = new Map<number, Lease[]>();
  readonly #leased = new Set<number>();
  #nextSlab = 0;
  #totalBytes = 0;
  #leasedBytes = 0;

  constructor(options: SlabPoolOptions) {
    this.#options = options;
  }

  /** Bytes of all slabs, leased and free. */
  get totalBytes(): number {
    return this.#totalBytes;
  }

  get leasedCount(): number {
    return this.#leased.size;
  }

  /** Whether a lease of `bytes` could ever be had. */
  fits(bytes: number): boolean {
    return sizeClass(bytes) <= this.#options.maxBytes;
  }

  /** A lease of at least `bytes`, or undefined while the pool's bound is taken by other leases. Contents are whatever they were. */
  acquire(bytes: number): Lease | undefined {
    const size = sizeClass(bytes);
    const lease = this.#free.get(size)?.pop() ?? this.#create(size);
    if (lease) {
      this.#leased.add(lease.slab);
      this.#leasedBytes += size;
    }
    return lease;
  }

  /** Gives a lease back; twice is a bug. */
  release(lease: Lease): void {
    assert(this.#leased.delete(lease.slab), `slab ${lease.slab} released twice`);
    if (this.#options.poison) lease.bytes.fill(0xdd);
    const size = lease.bytes.byteLength;
    this.#leasedBytes -= size;
    const list = this.#free.get(size);
    if (list) list.push(lease);
    else this.#free.set(size, [lease]);
  }

  #create(size: number): Lease | undefined {
    if (this.#leasedBytes + size > this.#options.maxBytes) return undefined;
    // Room is made from free slabs of other classes, the largest first: fewest workers' maps change.
    const classes = [...this.#free.keys()].sort((a, b) => b - a);
    for (const other of classes) {
      const list = this.#free.get(other)!;
      while (this.#totalBytes + size > this.#options.maxBytes && list.length > 0) {
        this.#options.onDrop(list.pop()!.slab);
        this.#totalBytes -= other;
      }
    }
    if (this.#totalBytes + size > this.#options.maxBytes) return undefined;
    const buffer = new SharedArrayBuffer(size);
    const slab = this.#nextSlab++;
    this.#totalBytes += size;
    this.#options.onCreate(slab, buffer);
    return { slab, bytes: Buffer.from(buffer) };
  }
}
