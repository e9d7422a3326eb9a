// An earthquake, as a GeoJSON feature says it.
import { parseJson, text } from "../../sdk/waypost.js";

const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const ifIs = (type, value) => (typeof value === type ? value : null);

/** Reads a message's payload; throws the reason for its dead letter. */
export function readQuake(message) {
  const json = text(message.wholePayload());
  if (json === undefined) throw new Error("not JSON: not UTF-8");
  let feature;
  try {
    feature = parseJson(json);
  } catch (error) {
    throw new Error(`not JSON: ${error.message}`);
  }
  const properties = isObject(feature) ? feature.properties : undefined;
  if (!isObject(properties)) throw new Error("not an earthquake: no properties");
  const magnitude = properties.mag ?? null;
  if (magnitude !== null && !Number.isFinite(magnitude)) {
    throw new Error("not an earthquake: mag is not a number");
  }
  return { feature, properties, magnitude };
}

/** The compact form of it. */
export function compact({ feature, properties, magnitude }) {
  const coordinates = isObject(feature.geometry) ? feature.geometry.coordinates : undefined;
  return {
    id: ifIs("string", feature.id),
    mag: magnitude,
    place: ifIs("string", properties.place),
    time: ifIs("number", properties.time),
    depth: Array.isArray(coordinates) ? ifIs("number", coordinates[2]) : null,
  };
}
