// How much memory this process has in all.

/**
 * Resident bytes; undefined when they cannot be looked up, which takes a free file descriptor: what the engine says of
 * itself must not depend on one, least of all when there is none.
 */
export function residentBytes(): number | undefined {
  try {
    return process.memoryUsage.rss();
  } catch {
    return undefined;
  }
}
