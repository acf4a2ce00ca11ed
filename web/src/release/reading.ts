/**
 * A release as the app uses it, from what `release.json` and the networks' cards say; what a release
 * of dermfuse does not say is refused (`dermfuse.release.folder`, `dermfuse.release.cards`).
 */
import { checkLooks } from "../analysis/looks";
import { Fields } from "./fields";
import type { Calibration, Card, Member, OperatingPoint, Rate, Release } from "./records";

const RELEASE_FORMAT = 1;
const CARD_FORMAT = 2;
const MOST_LOGITS = 1e6;
const MOST_DISTANCE = 1e12;
const MOST_SIDE_PX = 4096;
const SLACK = 1e-6; // of the sum of weights

/** What the networks of a release must answer; beside a gate those of classes an embedding, too. */
const SCORING = ["malignant", "activation_map"];
const EMBEDDING = "embedding";
const OUTLINING = ["lesion"];

/** Returns the release of a record; refuses one that does not add up. */
export function readRelease(record: unknown): Release {
  const fields = new Fields(record, "release.json");
  if (fields.value("format") !== RELEASE_FORMAT) fields.refuse("format", `${RELEASE_FORMAT}`);
  const classes = fields.object("classes");
  const masks = fields.object("masks");
  const points = classes.objects("operating_points").map(readPoint);
  const release: Release = {
    format: RELEASE_FORMAT,
    name: fields.text("name"),
    classes: {
      members: readMembers(classes),
      calibration: readCalibration(classes.object("calibration")),
      operating_points: points,
      default_point: classes.text("default_point"),
    },
    masks: { members: readMembers(masks), threshold: masks.number("threshold", 0, 1) },
    gate: fields.isNull("gate")
      ? null
      : { threshold: fields.object("gate").number("threshold", 0, MOST_DISTANCE) },
    looks: checkLooks(fields.value("looks")),
    notice: fields.text("notice"),
  };
  const names = points.map(({ name }) => name);
  if (new Set(names).size < names.length || !names.includes(release.classes.default_point)) {
    classes.refuse("default_point", "the name of one operating point");
  }
  return release;
}

/** Returns the card of a network, from its parsed file. */
export function readCard(record: unknown, path: string): Card {
  const fields = new Fields(record, path);
  if (fields.value("format") !== CARD_FORMAT) fields.refuse("format", `${CARD_FORMAT}`);
  const input = fields.object("input");
  const given: Readonly<Record<string, string>> = { dtype: "uint8", layout: "NHWC", colour: "RGB" };
  for (const [key, expected] of Object.entries(given)) {
    if (input.value(key) !== expected) input.refuse(key, expected);
  }
  return {
    name: fields.fileName("name"),
    file: fields.fileName("file", ".onnx"),
    precision: fields.text("precision"),
    input: { name: input.text("name"), size: input.whole("size", 1, MOST_SIDE_PX) },
    outputs: fields.object("outputs").texts(),
    weights_licence: fields.text("weights_licence"),
  };
}

/** Refuses networks that do not answer what their places in a release ask for. */
export function checkCards(release: Release, cards: readonly Card[]): void {
  const scoring = release.gate ? [...SCORING, EMBEDDING] : SCORING;
  cards.forEach((card, i) => {
    const needed = i < release.classes.members.length ? scoring : OUTLINING;
    const missing = needed.filter((output) => !Object.hasOwn(card.outputs, output));
    if (missing.length) {
      throw new Error(
        `${card.name}.json: outputs has no ${missing.join(", ")}. Build the app with another release.`,
      );
    }
  });
}

function readMembers(part: Fields): Member[] {
  const members = part.objects("members").map((member) => ({
    name: member.fileName("name"),
    weight: member.number("weight", 0, 1),
  }));
  const total = members.reduce((sum, { weight }) => sum + weight, 0);
  if (new Set(members.map(({ name }) => name)).size < members.length || !near(total, 1)) {
    part.refuse("members", "different networks whose weights add up to 1");
  }
  return members;
}

function near(value: number, wanted: number): boolean {
  return Math.abs(value - wanted) <= SLACK;
}

function readCalibration(calibration: Fields): Calibration {
  return {
    temperature: calibration.number("temperature", 1 / MOST_LOGITS, MOST_LOGITS),
    bias: calibration.number("bias", -MOST_LOGITS, MOST_LOGITS),
  };
}

function readPoint(point: Fields): OperatingPoint {
  return {
    name: point.text("name"),
    threshold: point.number("threshold", 0, 1),
    sensitivity: readRate(point.object("sensitivity")),
    specificity: readRate(point.object("specificity")),
  };
}

function readRate(rate: Fields): Rate {
  return { value: rate.number("value", 0, 1), low: rate.number("low", 0, 1), high: rate.number("high", 0, 1) };
}
