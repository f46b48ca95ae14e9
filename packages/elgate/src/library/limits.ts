// The engine's bounds that matter to those who pack for it.

/** Largest payload of one record. */
export const PAYLOAD_BYTES_MAX = 1_000_000;

/** Most records in one submission. */
export const RECORDS_PER_SUBMISSION_MAX = 4096;

/** What stands before each packed record: its length. */
export const RECORD_FRAME_BYTES = 4;

/** What one ring slot (4,096 bytes) holds after its header: the route's name and the packed records. */
const SLOT_BODY_BYTES = 4096 - 64;

/** Packed bytes that fill one slot for a route of this name. */
export function slotBytes(route: string): number {
  return SLOT_BODY_BYTES - route.length;
}

/** Packed bytes that one submission may hold: the longest run of slots, less the longest name. */
export const SUBMISSION_BYTES_MAX = 255 * 4096 - 64 - 64;
