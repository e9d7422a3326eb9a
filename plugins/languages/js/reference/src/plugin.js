// The reference plugin, in JavaScript: what it does is written in plugins/languages/README.md.
import { deadLetter, drop, edit, pass, plugin } from "../../sdk/waypost.js";
import { compact, readQuake } from "./quake.js";
import { choose, readRules } from "./rules.js";

/** Most features are shorter; what is longer is pulled. */
const PAYLOAD_PREFIX = 4096;

let min = 3;
let header;
let topic;
let rules;

/** The magnitude of a header or of the payload, null if there is none. */
function magnitudeOf(message) {
  if (header === undefined) return readQuake(message).magnitude;
  const magnitude = message.headerNumber(header);
  if (magnitude === undefined) return null;
  if (Number.isNaN(magnitude)) throw new Error(`header '${header}' is not a number`);
  return magnitude;
}

/** Calls answer; an error of it is the reason for a dead letter. */
const orDeadLetter = (answer) => (message) => {
  try {
    return answer(message);
  } catch (error) {
    return deadLetter(error.message);
  }
};

export const { lifecycle, filter, transform, route } = plugin({
  init(config) {
    switch (config.role) {
      case "filter":
        config.allow("min-magnitude", "header");
        min = config.number("min-magnitude", 3);
        header = config.get("header");
        return header === undefined ? { payload: PAYLOAD_PREFIX } : { headers: [header] };
      case "transform":
        config.allow("topic");
        topic = config.get("topic");
        return { payload: PAYLOAD_PREFIX };
      default:
        rules = readRules(config);
        return { payload: PAYLOAD_PREFIX };
    }
  },

  filter: orDeadLetter((message) => {
    const magnitude = magnitudeOf(message);
    if (magnitude === null) return drop("no magnitude");
    return magnitude >= min ? pass : drop(`magnitude ${magnitude} is below ${min}`);
  }),

  transform: orDeadLetter((message) => {
    const quake = readQuake(message);
    const { magnitude } = quake;
    return edit({
      topic: topic?.replaceAll("{topic}", () => message.topic),
      payload: JSON.stringify(compact(quake)),
      contentType: "application/json",
      setHeaders: magnitude === null ? {} : { magnitude: String(magnitude) },
      removeHeaders: magnitude === null ? ["magnitude"] : [],
    });
  }),

  route: orDeadLetter((message) => choose(rules, readQuake(message).magnitude)),
});
