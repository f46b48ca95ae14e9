export { ElgateError, type ElgateErrorCode } from './errors.js';
