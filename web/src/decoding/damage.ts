/** What keeps a file from being read, in words that follow a colon. */
export class Damage extends Error {}
