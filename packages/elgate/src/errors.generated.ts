// Generated from the engine's error table by `npm run generate:errors -w elgate`. Do not edit.

export const ERROR_TABLE = [
  {
    number: 1,
    name: 'ERR_ELGATE_CONFIG_INVALID',
    retryable: false,
    advice: 'Correct the setting that the message names.',
  },
  {
    number: 2,
    name: 'ERR_ELGATE_ROUTE_UNKNOWN',
    retryable: false,
    advice: 'Add the route to the configuration, or correct its name; `elgate routes` lists those that exist.',
  },
  {
    number: 3,
    name: 'ERR_ELGATE_ROUTE_NAME_INVALID',
    retryable: false,
    advice: "Use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', starting with a letter or digit.",
  },
  {
    number: 4,
    name: 'ERR_ELGATE_PAYLOAD_TOO_LARGE',
    retryable: false,
    advice: 'Split the payload: one record holds at most 1,000,000 bytes.',
  },
  {
    number: 5,
    name: 'ERR_ELGATE_BACKPRESSURE',
    retryable: true,
    advice: 'The ring is full: await drained(), or slow down.',
  },
  {
    number: 6,
    name: 'ERR_ELGATE_DAEMON_UNAVAILABLE',
    retryable: true,
    advice: 'Start the daemon with `npx elgate serve`, or name its ring with --ring or ELGATE_RING.',
  },
  {
    number: 7,
    name: 'ERR_ELGATE_RING_INCOMPATIBLE',
    retryable: false,
    advice: 'Stop every process that uses the ring, delete the ring file, and start the daemon again.',
  },
  {
    number: 8,
    name: 'ERR_ELGATE_RING_CORRUPT',
    retryable: true,
    advice: 'A process wrote nonsense into the ring; reconnect, and find the program that did it.',
  },
  {
    number: 9,
    name: 'ERR_ELGATE_SLOT_CORRUPT',
    retryable: false,
    advice: 'The operation did not survive validation and was not taken; send it again from intact memory.',
  },
  {
    number: 10,
    name: 'ERR_ELGATE_TOO_MANY_PRODUCERS',
    retryable: true,
    advice: 'Close unused connections: one ring serves a limited number of producers.',
  },
  {
    number: 11,
    name: 'ERR_ELGATE_IN_USE',
    retryable: false,
    advice: 'Another Elgate holds it: stop that process, or choose another data directory or ring.',
  },
  {
    number: 12,
    name: 'ERR_ELGATE_LOG_UNAVAILABLE',
    retryable: true,
    advice: "The route's log cannot be written; free disk space or repair the device, and it resumes by itself.",
  },
  {
    number: 13,
    name: 'ERR_ELGATE_LOG_CORRUPT',
    retryable: false,
    advice: 'Acknowledged data is damaged; what is readable is served, the rest is named in the quarantine folder.',
  },
  {
    number: 14,
    name: 'ERR_ELGATE_PERMISSION_DENIED',
    retryable: false,
    advice: 'Give this user the permission that the message names, or choose another path.',
  },
  {
    number: 15,
    name: 'ERR_ELGATE_CLOSED',
    retryable: false,
    advice: 'This handle was closed; open a new one.',
  },
  {
    number: 16,
    name: 'ERR_ELGATE_TIMEOUT',
    retryable: true,
    advice: 'The outcome is unknown: the operation may still be carried out. Look it up before sending it again.',
  },
  {
    number: 17,
    name: 'ERR_ELGATE_DELIVERY_REFUSED',
    retryable: false,
    advice: "The far end refused the record for good; see the route's status for its last answer.",
  },
  {
    number: 18,
    name: 'ERR_ELGATE_PATH_OUTSIDE_ROOT',
    retryable: false,
    advice: "Name a path below the sink root; links and '..' that leave it are refused.",
  },
  {
    number: 19,
    name: 'ERR_ELGATE_IO',
    retryable: true,
    advice: 'The operating system refused the operation that the message names.',
  },
  {
    number: 20,
    name: 'ERR_ELGATE_UNSUPPORTED',
    retryable: false,
    advice: 'Use the alternative that the message names.',
  },
  {
    number: 21,
    name: 'ERR_ELGATE_INTERNAL',
    retryable: false,
    advice: 'This is a defect in Elgate: please report it with the message.',
  },
  {
    number: 22,
    name: 'ERR_ELGATE_ROUTE_PAUSED',
    retryable: true,
    advice: 'Resume the route with `elgate routes resume`.',
  },
  {
    number: 23,
    name: 'ERR_ELGATE_ADDRESS_IN_USE',
    retryable: false,
    advice: 'Choose another address with --admin, or stop the process that listens there.',
  },
  {
    number: 24,
    name: 'ERR_ELGATE_USAGE',
    retryable: false,
    advice: 'See `elgate help`.',
  },
  {
    number: 25,
    name: 'ERR_ELGATE_FAR_END_UNAVAILABLE',
    retryable: true,
    advice:
      "Check that the route's destination runs and can be reached; the records wait in the log and are tried again.",
  },
] as const;

/** Every stable error code. */
export type ElgateErrorCode = (typeof ERROR_TABLE)[number]['name'];
