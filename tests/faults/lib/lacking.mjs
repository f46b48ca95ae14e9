/** Thrown by a case for which the machine lacks something: skipped, aloud. */
export class Lacking extends Error {}
