/** The words of a gRPC status as whoever wrote them meant them: the trailer is percent-encoded, and not every server keeps to that. */
export function grpcMessage(trailer: string): string {
  try {
    return decodeURIComponent(trailer);
  } catch {
    return trailer;
  }
}
