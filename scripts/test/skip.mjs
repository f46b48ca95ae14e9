/** Thrown by a step that cannot run here; the message says what is missing. */
export class Skip extends Error {}
