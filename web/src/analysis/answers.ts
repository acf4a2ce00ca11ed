/** What a network may answer (`dermfuse.release.networks`): the rest is refused. */
import type { Answer } from "./looks";

const AXES: Readonly<Record<string, number>> = {
  malignant: 1,
  embedding: 2,
  activation_map: 3,
  lesion: 3,
};
const PROBABILITIES = ["malignant", "lesion"];
const ROUNDING = 1e-5; // a softmax in single precision may end a little above 1

/** Refuses an answer of another shape or type, or with numbers that nothing may follow from. */
export function checkAnswer(file: string, output: string, answer: Answer, images: number): void {
  const { data, dims } = answer;
  const axes = AXES[output] ?? dims.length;
  const isSquare = dims.length < 3 || dims.at(-1) === dims.at(-2);
  const length = dims.reduce((product, side) => product * side, 1);
  const isWhole = data instanceof Float32Array && data.length === length && length > 0;
  if (!isWhole || dims[0] !== images || dims.length !== axes || !isSquare) {
    throw refusal(file, `${output} of shape (${dims.join(", ")})`);
  }
  const [least, most] = PROBABILITIES.includes(output)
    ? [-ROUNDING, 1 + ROUNDING]
    : [-Number.MAX_VALUE, Number.MAX_VALUE];
  for (const value of data) {
    if (!(value >= least && value <= most)) throw refusal(file, `${output} ${value}`); // NaN, too
  }
}

function refusal(file: string, found: string): Error {
  return new Error(`${file} answers ${found}, which no network of dermfuse does`);
}
