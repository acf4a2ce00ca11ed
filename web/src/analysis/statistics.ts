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
  const sorted = Float64Array.from(values).sort();
  return percents.map((percent) => {
    const place = (percent / 100) * (sorted.length - 1);
    const below = Math.floor(place);
    const above = Math.min(below + 1, sorted.length - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
  });
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
