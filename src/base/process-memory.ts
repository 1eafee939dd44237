/**
 * How much memory of the process is not the main thread's own: what ONNX Runtime holds, and whatever else lies outside JavaScript.
 *
 * Called by the engine around each load, to learn what it cost. Asks the system (some 30 us): never on a request's way.
 */

/**
 * Resident bytes of the process less those that the calling thread's JavaScript holds (its heap, messages, shared memory), which come
 * and go with the requests that are served meanwhile.
 */
export function nativeBytes(): number {
  const { rss, heapTotal, external } = process.memoryUsage();
  return rss - heapTotal - external;
}
