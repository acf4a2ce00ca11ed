/** A release that is not as it is meant is refused in one line, as by the library. */
import { describe, expect, test } from "vitest";
import { checkAnswer } from "../src/analysis/answers";
import { cloudDistance, unpackDermoscopy } from "../src/analysis/gate";
import { checkCards, readCard, readRelease } from "../src/release/reading";
import { vectors } from "./vectors";

type Record_ = Record<string, any>; // a parsed file, to be changed as an attacker would

const release = (): Record_ => structuredClone(vectors.release) as Record_;

const card = (): Record_ => ({
  format: 2,
  name: "net",
  file: "net.onnx",
  precision: "float32",
  input: { name: "image", dtype: "uint8", layout: "NHWC", colour: "RGB", size: 32 },
  outputs: { malignant: "", activation_map: "", embedding: "" },
  weights_licence: "none",
});

const NAMES = ["../victim", "/etc/hostname", "a\\b", "..", "", ".a", "a\u0000b", "a\nb", "c:d", " a"];

describe("a release", () => {
  test("of dermfuse is read, and of its record no more than the app uses", () => {
    const found = readRelease(release());
    expect(found.classes.members).toEqual(vectors.release.classes.members);
    expect(found.gate).toEqual({ threshold: vectors.release.gate!.threshold });
    expect(readRelease({ ...release(), gate: null }).gate).toBeNull();
  });
  test.each(NAMES)("with the name %j of a network is refused", (name) => {
    const changed = release();
    changed.classes.members[0].name = name;
    expect(() => readRelease(changed)).toThrow(/^release\.json: classes\.members\.0\.name is [^\n]+$/);
  });
  const changes: [string, (record: Record_) => void][] = [
    ["release.json: masks.threshold is 2. Expected: a number from 0 to 1", (r) => (r.masks.threshold = 2)],
    ["masks.threshold is null", (r) => (r.masks.threshold = NaN)],
    ["classes.members.0.weight is 3", (r) => (r.classes.members[0].weight = 3)],
    ["classes.members.0.weight is -2", (r) => (r.classes.members[0].weight = -2)],
    ['weight is "1"', (r) => (r.classes.members[0].weight = "1")],
    ["whose weights add up to 1", (r) => (r.masks.members[0].weight = 0.5)],
    ["members is []", (r) => (r.masks.members = [])],
    ["members is 3. Expected: a list", (r) => (r.masks.members = 3)],
    ["classes.calibration.temperature is 0", (r) => (r.classes.calibration.temperature = 0)],
    ["classes.calibration.temperature is missing", (r) => delete r.classes.calibration.temperature],
    ["classes.calibration.bias is 1e+300", (r) => (r.classes.calibration.bias = 1e300)],
    ["gate.threshold is null", (r) => (r.gate.threshold = Infinity)],
    ["gate is missing", (r) => delete r.gate],
    ["operating_points.0.threshold is -1", (r) => (r.classes.operating_points[0].threshold = -1)],
    ["sensitivity.high is 1.5", (r) => (r.classes.operating_points[0].sensitivity.high = 1.5)],
    ["default_point is", (r) => (r.classes.default_point = "none")],
    ["format is 2", (r) => (r.format = 2)],
    ['name is "a\\nb"', (r) => (r.name = "a\nb")],
    ["release.json: classes is null. Expected: an object", (r) => (r.classes = null)],
  ];
  test.each(changes)("where %s is refused", (message, change) => {
    const changed = release();
    change(changed);
    expect(() => readRelease(changed)).toThrow(message);
    expect(() => readRelease(changed)).toThrow(/^[^\n]{1,300}$/);
  });
  test.each([null, [], 3, "x"])("that is %j is refused", (record) => {
    expect(() => readRelease(record)).toThrow("the record is");
  });
});

describe("a card", () => {
  test("is read", () => {
    expect(readCard(card(), "net.json").input).toEqual({ name: "image", size: 32 });
  });
  test.each(NAMES)("with the file %j is refused", (file) => {
    expect(() => readCard({ ...card(), file: `${file}.onnx/..` }, "net.json")).toThrow("file is");
    expect(() => readCard({ ...card(), name: file }, "net.json")).toThrow("net.json: name is");
  });
  test.each([0, 1e6, 1.5, "32", null])("of size %j is refused", (size) => {
    const input = { ...card().input, size };
    expect(() => readCard({ ...card(), input }, "net.json")).toThrow("net.json: input.size is");
  });
  test("of another input, of no network, or without an answer is refused", () => {
    const input = { ...card().input, dtype: "float32" };
    expect(() => readCard({ ...card(), input }, "net.json")).toThrow('dtype is "float32"');
    expect(() => readCard({ ...card(), file: "net.json" }, "net.json")).toThrow("ends in .onnx");
    expect(() => readCard({ ...card(), outputs: { malignant: 1 } }, "net.json")).toThrow("malignant is 1");
    const found = readCard({ ...card(), outputs: { malignant: "" } }, "net.json");
    expect(() => checkCards(readRelease(release()), [found])).toThrow(
      "net.json: outputs has no activation_map, embedding",
    );
  });
});

describe("an answer", () => {
  const check = (output: string, values: number[], ...dims: number[]) =>
    checkAnswer("net.onnx", output, { data: Float32Array.from(values), dims }, 1);
  test("that is a probability passes", () => {
    check("malignant", [1.000001], 1);
    check("lesion", [0, 0.5, 0.5, 1], 1, 2, 2);
    check("activation_map", [-7], 1, 1, 1);
  });
  test.each([2, -0.5, NaN, Infinity])("of %d never passes as one", (value) => {
    expect(() => check("malignant", [value], 1)).toThrow(`net.onnx answers malignant ${value}`);
    expect(() => check("lesion", [value], 1, 1, 1)).toThrow("answers lesion");
  });
  test.each([NaN, -Infinity])("that is no number, %d, is refused", (value) => {
    expect(() => check("embedding", [value], 1, 1)).toThrow("answers embedding");
  });
  test("of another shape is refused", () => {
    expect(() => check("malignant", [0.5, 0.5], 1, 2)).toThrow("of shape (1, 2)");
    expect(() => check("malignant", [0.5, 0.5], 2)).toThrow("of shape (2)");
    expect(() => check("lesion", [0, 0], 1, 1, 2)).toThrow("of shape (1, 1, 2)");
    expect(() => check("lesion", [], 1, 0, 0)).toThrow("of shape (1, 0, 0)");
    const bytes = { data: new Uint8Array(1) as unknown as Float32Array, dims: [1] };
    expect(() => checkAnswer("net.onnx", "malignant", bytes, 1)).toThrow("of shape");
  });
});

describe("a gate", () => {
  const packed = (): Record_ => structuredClone(vectors.dermoscopy) as Record_;
  const floats = (...values: number[]) => {
    const bytes = new Uint8Array(Float32Array.from(values).buffer);
    return { shape: [values.length], float32: btoa(String.fromCharCode(...bytes)) };
  };
  test("of the builder is read, and is for so many features", () => {
    const { appearance } = unpackDermoscopy(packed());
    expect(appearance.mean.length).toBe(vectors.features.length);
    expect(() => cloudDistance(appearance, new Float32Array(3))).toThrow("there are 3");
  });
  const changes: [string, (record: Record_) => void][] = [
    ["embedding.mean", (r) => (r.embedding.mean.shape = [1, 1])],
    ["embedding.mean", (r) => (r.embedding.mean.float32 = "no base64!")],
    ["embedding.mean", (r) => delete r.embedding.mean],
    ["embedding.typical", (r) => (r.embedding.typical = floats(NaN))],
    ["embedding", (r) => (r.embedding.typical = floats(0))],
    ["embedding", (r) => (r.embedding.rest = floats(1, 1))],
    ["appearance", (r) => (r.appearance.variance = floats(1))],
    ["appearance.mean", (r) => delete r.appearance],
  ];
  test.each(changes)("whose %s is not one is refused", (name, change) => {
    const changed = packed();
    change(changed);
    expect(() => unpackDermoscopy(changed)).toThrow(`dermoscopy.json: ${name} does not hold`);
  });
  test("that is nothing is refused", () => {
    expect(() => unpackDermoscopy(null)).toThrow("embedding.mean");
  });
});
