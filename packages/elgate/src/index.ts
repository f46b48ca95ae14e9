// Elgate, the library.
//
//   library/elgate.ts    the gate: open, connect, tail, fetch, close
//   library/route.ts     append, appendMany, post
//   library/lane.ts      how records are packed and handed over in order
//   library/producer.ts  how acknowledgements come back, in batches through one doorbell
//   library/tail.ts      reading logs
//   config/              elgate.toml, ELGATE_*, flags: one complete configuration or one error
//   control/             the control API and its metrics
//   daemon/, cli/        `elgate serve` and the other commands
//   native/              the addon: finding it, and what it exposes

export { ElgateError, type ElgateErrorCode } from './errors.js';
export { Elgate } from './library/elgate.js';
export { Route } from './library/route.js';
export type {
  AppendOptions,
  Bytes,
  CloseOptions,
  ConnectOptions,
  Gap,
  GroupReceipt,
  Level,
  LogRecord,
  OpenOptions,
  Receipt,
  RouteOptions,
  TailOptions,
} from './library/types.js';
export type { DrainOutcome } from './native/binding.js';
