/** Statistics by NumPy's definitions. */

type Numbers = ArrayLike<number>;

/** Returns a number rounded to an integer, halves to the even one. */
export function roundHalfEven(value: number): number {
  const below = Math.floor(value);
  const rest = value - below;
  if (rest !== 0.5) return Math.round(value);
  return below % 2 === 0 ? below : below + 1;
}

/** Returns the mean; 0 of nothing. */
export function mean(values: Numbers): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i];
  return values.length ? sum / values.length : 0;
}

/** Returns the standard deviation of a population. */
export function deviation(values: Numbers): number {
  const middle = mean(values);
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] - middle) ** 2;
  return values.length ? Math.sqrt(sum / values.length) : 0;
}

/** Returns percentiles, interpolated linearly between the values that are next to them. */
export function percentiles(values: Numbers, percents: readonly number[]): number[] {
  const parted = new Float64Array(values);
  return percents.map((percent) => {
    const place = (percent / 100) * (parted.length - 1);
    const rank = Math.floor(place);
    const below = select(parted, rank);
    if (place === rank) return below;
    let above = Infinity;
    for (let i = rank + 1; i < parted.length; i++) above = Math.min(above, parted[i]);
    return below + (above - below) * (place - rank);
  });
}

/** Returns the value of a rank, and parts the values there: none before it is larger (Hoare). */
function select(values: Float64Array, rank: number): number {
  let [low, high] = [0, values.length - 1];
  while (low < high) {
    const pivot = values[(low + high) >> 1];
    let [i, j] = [low, high];
    while (i <= j) {
      while (values[i] < pivot) i++;
      while (values[j] > pivot) j--;
      if (i > j) break;
      const value = values[i];
      values[i++] = values[j];
      values[j--] = value;
    }
    if (rank <= j) high = j;
    else if (rank >= i) low = i;
    else break;
  }
  return values[rank];
}

/** Returns the median. */
export function median(values: Numbers): number {
  return percentiles(values, [50])[0];
}

/** Returns Pearson's correlation; 0 where one of the two does not vary. */
export function correlation(a: Numbers, b: Numbers): number {
  const middleA = mean(a);
  const middleB = mean(b);
  let both = 0;
  let squareA = 0;
  let squareB = 0;
  for (let i = 0; i < a.length; i++) {
    const x = a[i] - middleA;
    const y = b[i] - middleB;
    both += x * y;
    squareA += x * x;
    squareB += y * y;
  }
  return quotient(both / a.length, Math.sqrt((squareA / a.length) * (squareB / a.length)));
}

/** Returns a quotient; 0 where the divisor is as good as 0. */
export function quotient(above: number, below: number): number {
  return below > 1e-9 ? above / below : 0;
}
