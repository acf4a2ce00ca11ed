/** The fields of a record that somebody else wrote: of the type and in the range asked for, or refused. */

const SHOWN = 60;
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029\ud800-\udfff]/u;
const NO_NAME = /^\.|[/\\:*?"<>|]|^\s|\s$|^$/;

/** A JSON object with its place in a file, for messages. */
export class Fields {
  readonly #record: Readonly<Record<string, unknown>>;

  constructor(
    record: unknown,
    private readonly source: string,
    private readonly prefix = "",
  ) {
    if (typeof record !== "object" || record === null || Array.isArray(record)) {
      throw refusal(`${source}: ${prefix.slice(0, -1) || "the record"} is ${shown(record)}`, "an object");
    }
    this.#record = record as Readonly<Record<string, unknown>>;
  }

  /** Refuses a field. */
  refuse(key: string, expected: string): never {
    const found = Object.hasOwn(this.#record, key) ? `is ${shown(this.#record[key])}` : "is missing";
    throw refusal(`${this.source}: ${this.prefix}${key} ${found}`, expected);
  }

  value(key: string): unknown {
    return Object.hasOwn(this.#record, key) ? this.#record[key] : undefined;
  }

  isNull(key: string): boolean {
    return this.value(key) === null;
  }

  /** Returns a text that can be shown on one line. */
  text(key: string): string {
    const value = this.value(key);
    if (typeof value !== "string" || CONTROL.test(value)) this.refuse(key, "a text");
    return value;
  }

  /** Returns the name of a file in its folder, which is no path. */
  fileName(key: string, ending = ""): string {
    const name = this.text(key);
    if (NO_NAME.test(name) || !name.endsWith(ending)) {
      this.refuse(key, `the name of a file${ending && ` that ends in ${ending}`}, no path`);
    }
    return name;
  }

  number(key: string, lowest: number, highest: number): number {
    const value = this.value(key);
    if (typeof value !== "number" || !(value >= lowest && value <= highest)) {
      this.refuse(key, `a number from ${lowest} to ${highest}`);
    }
    return value;
  }

  whole(key: string, lowest: number, highest: number): number {
    const value = this.number(key, lowest, highest);
    if (!Number.isInteger(value)) this.refuse(key, "a whole number");
    return value;
  }

  object(key: string): Fields {
    return new Fields(this.value(key), this.source, `${this.prefix}${key}.`);
  }

  objects(key: string): Fields[] {
    const value = this.value(key);
    if (!Array.isArray(value)) this.refuse(key, "a list");
    return value.map((one, i) => new Fields(one, this.source, `${this.prefix}${key}.${i}.`));
  }

  /** Returns all fields as texts. */
  texts(): Record<string, string> {
    return Object.fromEntries(Object.keys(this.#record).map((key) => [key, this.text(key)]));
  }
}

function shown(value: unknown): string {
  const text = JSON.stringify(value) ?? "missing";
  return text.length <= SHOWN ? text : `${text.slice(0, SHOWN)}...`;
}

function refusal(found: string, expected: string): Error {
  return new Error(`${found}. Expected: ${expected}. Build the app with another release.`);
}
