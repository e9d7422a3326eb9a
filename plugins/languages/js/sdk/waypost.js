// Waypost plugins in JavaScript and TypeScript (types in waypost.d.ts): the contract of
// wit/plugin.wit.
//
//     export const { lifecycle, filter } = plugin({
//       init(config) { … return { headers: ["decibel"] } },
//       filter(message) { … return drop("too quiet") },
//     });
//
// Messages are views into the packed batch: a field that is never read costs nothing, and all of
// them are good only until the call ends. What a plugin asks of the router it imports by the name of
// the interface, which the project's world (wit/world.wit) must name too:
//
//     import log from "waypost:plugin/log@0.1.1";
//     log.log("info", "…");
//
// log, clock, random, metrics and payload every plugin may import; state, publish and timer need
// a grant.
import payload from "waypost:plugin/payload@0.1.1";

const STRIDE_MIN = 20;
const PAYLOAD_CUT = 4;
/** Bytes that payload.read gives at most in one call. */
const PULL_BYTES_MAX = 1 << 20;
/** Characters that one call of fromCharCode makes: each is an argument. */
const CHUNK = 4096;

/** The text of bytes in UTF-8; undefined if they are not. */
export function text(bytes) {
  let made = "";
  if (bytes.length <= CHUNK) {
    made = String.fromCharCode.apply(null, bytes);
  } else {
    for (let at = 0; at < bytes.length; at += CHUNK) {
      made += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK));
    }
  }
  if (!/[\x80-\xff]/.test(made)) return made;
  try {
    // The one UTF-8 decoder that this engine has in itself; it refuses what is not UTF-8.
    return decodeURIComponent(escape(made));
  } catch {
    return undefined;
  }
}

/** Bytes of a text in UTF-8. */
export function bytes(made) {
  const encoded = unescape(encodeURIComponent(made));
  const list = new Uint8Array(encoded.length);
  for (let i = 0; i < list.length; i++) list[i] = encoded.charCodeAt(i);
  return list;
}

/** A number as JSON writes it, with nothing around it; undefined for anything else. */
export function number(made) {
  const first = made.charCodeAt(0);
  const last = made.charCodeAt(made.length - 1);
  if (!((first >= 48 && first <= 57) || first === 45) || last < 48 || last > 57) return undefined;
  try {
    const value = JSON.parse(made);
    return Number.isFinite(value) ? value : undefined;
  } catch {
    return undefined;
  }
}

/** Digits that a number keeps exactly, so that one division rounds it as JSON.parse does. */
const DIGITS_MAX = 15;

/** The number that these bytes write as JSON does; NaN where they do not. */
function numberAt(arena, start, end) {
  const negative = arena[start] === 45;
  let at = negative ? start + 1 : start;
  const first = at;
  let value = 0;
  let scale = 0;
  if (end - at <= DIGITS_MAX) {
    for (; at < end; at++) {
      const digit = arena[at] - 48;
      if (digit >= 0 && digit <= 9) {
        value = value * 10 + digit;
        scale *= 10;
      } else if (digit === -2 && scale === 0 && at > first && at + 1 < end) {
        scale = 1;
      } else break;
    }
    const padded = arena[first] === 48 && end - first > 1 && arena[first + 1] !== 46;
    if (at === end && at > first && !padded) {
      const size = scale > 1 ? value / scale : value;
      return negative ? -size : size;
    }
  }
  return number(text(arena.subarray(start, end)) ?? "") ?? NaN;
}

/** Objects and lists within each other that parseJson takes. */
const DEPTH_MAX = 128;

/**
 * JSON.parse, for text from outside: it throws where the text is nested so deep that the engine's
 * own parser would run out of stack, which ends the instance and is no exception.
 */
export function parseJson(made) {
  const opened = made.match(/[[{]/g);
  if (opened !== null && opened.length > DEPTH_MAX && depth(made) > DEPTH_MAX) {
    throw new SyntaxError(`nested deeper than ${DEPTH_MAX}`);
  }
  return JSON.parse(made);
}

/** How deep a text is nested, up to where it is too deep. */
function depth(made) {
  let here = 0;
  let deepest = 0;
  let quoted = false;
  for (let i = 0; i < made.length && deepest <= DEPTH_MAX; i++) {
    const character = made[i];
    if (quoted) {
      if (character === "\\") i++;
      else if (character === '"') quoted = false;
    } else if (character === '"') {
      quoted = true;
    } else if (character === "[" || character === "{") {
      here++;
      if (here > deepest) deepest = here;
    } else if (character === "]" || character === "}") {
      here--;
    }
  }
  return deepest;
}

const names = new Map();

/** The bytes of a header's name, made once. */
function nameBytes(name) {
  let made = names.get(name);
  if (made === undefined) {
    made = bytes(name);
    names.set(name, made);
  }
  return made;
}

/** One message of a batch. The object is used again for the next message. */
class Message {
  constructor() {
    this.index = [];
    this.arena = new Uint8Array(0);
    this.at = 0;
    /** The place in the batch, from 0. */
    this.position = 0;
    this.start = 0;
    this.end = 0;
  }

  #bytes(word) {
    const start = this.index[this.at + word];
    return this.arena.subarray(start, start + this.index[this.at + word + 1]);
  }

  #marked(mark) {
    return (this.index[this.at] & mark) !== 0;
  }

  #wide(word) {
    return this.index[this.at + word] + this.index[this.at + word + 1] * 4294967296;
  }

  get topic() {
    return text(this.#bytes(1)) ?? "";
  }

  /** The payload, or the part of it that was asked for. */
  get payload() {
    return this.#bytes(5);
  }

  get payloadLength() {
    return this.index[this.at + 7];
  }

  /** The whole payload; what is not here is pulled from the router. */
  wholePayload() {
    const here = this.payload;
    if (!this.#marked(PAYLOAD_CUT)) return here;
    const whole = new Uint8Array(this.payloadLength);
    whole.set(here);
    for (let at = here.length; at < whole.length; ) {
      const wanted = Math.min(whole.length - at, PULL_BYTES_MAX);
      const part = payload.read(this.position, at, wanted);
      if (part.length === 0) throw new Error("the payload ended early");
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  get receiveTimeMs() {
    return this.#wide(8);
  }

  /** These are undefined unless they were asked for and the message has them. */
  get key() {
    return this.#marked(16) ? this.#bytes(10) : undefined;
  }

  get contentType() {
    return this.#marked(32) ? text(this.#bytes(12)) : undefined;
  }

  get messageId() {
    return this.#marked(64) ? this.#bytes(14) : undefined;
  }

  get replyTo() {
    return this.#marked(128) ? text(this.#bytes(16)) : undefined;
  }

  get ttlMs() {
    return this.#marked(8) ? this.#wide(18) : undefined;
  }

  get redelivered() {
    return this.#marked(1);
  }

  get fromPeer() {
    return this.#marked(2);
  }

  /** The value (bytes) of the first header with this name, if that header was asked for. */
  header(name) {
    return this.#find(name) ? this.arena.subarray(this.start, this.end) : undefined;
  }

  /** The same as a number; NaN where it is none. */
  headerNumber(name) {
    return this.#find(name) ? numberAt(this.arena, this.start, this.end) : undefined;
  }

  /** Says where in the arena a header's value lies. */
  #find(name) {
    const wanted = nameBytes(name);
    const arena = this.arena;
    let at = this.index[this.at + 3];
    const stop = at + this.index[this.at + 4];
    while (at + 8 <= stop) {
      const nameLength = word(arena, at);
      const value = at + 8 + nameLength;
      const end = value + word(arena, at + 4);
      if (end > stop) break;
      if (nameLength === wanted.length) {
        let i = 0;
        while (i < nameLength && arena[at + 8 + i] === wanted[i]) i++;
        if (i === nameLength) {
          this.start = value;
          this.end = end;
          return true;
        }
      }
      at = end;
    }
    return false;
  }

  /** The same as text; undefined also where it is not UTF-8. */
  headerText(name) {
    const value = this.header(name);
    return value === undefined ? undefined : text(value);
  }

  /** Names and values (bytes) of the headers that were asked for, in the publisher's order. */
  headers() {
    const found = [];
    let at = this.index[this.at + 3];
    const stop = at + this.index[this.at + 4];
    while (at + 8 <= stop) {
      const value = at + 8 + word(this.arena, at);
      const end = value + word(this.arena, at + 4);
      if (end > stop) break;
      found.push([text(this.arena.subarray(at + 8, value)) ?? "", this.arena.subarray(value, end)]);
      at = end;
    }
    return found;
  }
}

function word(arena, at) {
  return arena[at] + arena[at + 1] * 256 + arena[at + 2] * 65536 + arena[at + 3] * 16777216;
}

/** Refuses to start, in init; the setting at fault may be left out. */
export class Refusal extends Error {
  constructor(setting, message) {
    super(message);
    this.setting = setting;
  }
}

/** What init gets. */
class Config {
  constructor(raw) {
    this.plugin = raw.plugin;
    this.role = raw.role;
    this.instance = raw.instance;
    /** Names and values, in the order of the configuration. */
    this.settings = raw.settings;
    this.destinations = raw.destinations;
  }

  /** The value of a setting, of the last one of that name. */
  get(name) {
    return this.settings.findLast(([setting]) => setting === name)?.[1];
  }

  /** The value as a number. */
  number(name, otherwise) {
    const value = this.get(name);
    if (value === undefined) return otherwise;
    const parsed = number(value);
    if (parsed === undefined) throw new Refusal(name, `'${value}' is not a number`);
    return parsed;
  }

  /** Refuses settings that are not known, so that a slip of the pen is not passed over. */
  allow(...known) {
    for (const [name] of this.settings) {
      if (!known.includes(name)) {
        throw new Refusal(name, `unknown setting, expected one of ${known.join(", ")}`);
      }
    }
  }

  /** The index of a destination of the route; undefined if it has none of that name. */
  destination(name) {
    const index = this.destinations.indexOf(name);
    return index < 0 ? undefined : index;
  }
}

/** Answers of all roles; `pass` is what a function that returns nothing says too. */
export const pass = { tag: "pass" };
export const drop = (reason) => ({ tag: "drop", val: reason ?? null });
export const reject = (reason) => ({ tag: "reject", val: reason ?? "" });
export const retry = (afterMs = 0) => ({ tag: "retry", val: afterMs });
export const deadLetter = (reason) => ({ tag: "dead-letter", val: reason ?? "" });
/** A transform: changes. What is not named stays; an empty key or content type removes it. */
export const edit = (changes) => ({
  tag: "edit",
  val: {
    topic: changes.topic ?? null,
    key: optionalBytes(changes.key),
    contentType: changes.contentType ?? null,
    removeHeaders: changes.removeHeaders ?? [],
    setHeaders: pairs(changes.setHeaders),
    payload: optionalBytes(changes.payload),
    ttlMs: changes.ttlMs ?? null,
  },
});
/** A transform: these messages instead. */
export const emit = (...messages) => ({ tag: "emit", val: messages.map(outgoing) });
/** A route: to these destinations, by their indexes. */
export const to = (...destinations) => ({ tag: "to", val: destinations });

/** A message that a plugin makes, as the router takes it: for `publish` too. */
export function outgoing(message) {
  return {
    topic: message.topic,
    key: optionalBytes(message.key),
    contentType: message.contentType ?? null,
    replyTo: message.replyTo ?? null,
    headers: pairs(message.headers),
    payload: optionalBytes(message.payload ?? "") ?? new Uint8Array(0),
    ttlMs: message.ttlMs ?? null,
  };
}

function optionalBytes(value) {
  if (value === undefined || value === null) return null;
  return typeof value === "string" ? bytes(value) : value;
}

/** Headers as an object, or as names and values in order. */
function pairs(headers) {
  if (headers === undefined) return [];
  const list = Array.isArray(headers) ? headers : Object.entries(headers);
  return list.map(([name, value]) => [name, optionalBytes(value)]);
}

function interest(asked) {
  const headers = asked.headers ?? [];
  const prefix = asked.payload;
  let payloads = { tag: "nothing" };
  if (prefix === true) payloads = { tag: "everything" };
  else if (typeof prefix === "number") payloads = { tag: "prefix", val: prefix };
  return {
    headers:
      headers === true
        ? { tag: "everything" }
        : headers.length > 0
          ? { tag: "only", val: headers }
          : { tag: "nothing" },
    payload: payloads,
    fields: asked.fields ?? [],
    maxBatch: asked.maxBatch ?? 0,
  };
}

const message = new Message();

/** Calls answer for each message of a batch. */
function forEach(batch, answer) {
  const { count, stride, index, arena } = batch;
  if (stride < STRIDE_MIN || count * stride > index.length) {
    throw { tag: "internal", val: "the batch's index does not hold its messages" };
  }
  message.index = index;
  message.arena = arena;
  message.at = 0;
  for (let i = 0; i < count; i++, message.at += stride) {
    message.position = i;
    answer(i);
  }
}

/** The exports of a plugin: lifecycle, and one for each role that it has a function for. */
export function plugin(of) {
  const exported = {
    lifecycle: {
      init(raw) {
        try {
          return interest(of.init(new Config(raw)) ?? {});
        } catch (error) {
          throw { setting: error?.setting ?? null, message: String(error?.message ?? error) };
        }
      },
    },
  };
  if (of.filter) {
    exported.filter = {
      filter(batch) {
        const each = new Array(batch.count);
        const reasons = [];
        forEach(batch, (i) => {
          const answer = of.filter(message);
          each[i] = answer === undefined ? "pass" : answer.tag;
          if (answer?.val) reasons.push([i, answer.val]);
        });
        return { each, reasons };
      },
    };
  }
  for (const role of ["transform", "route"]) {
    if (of[role]) {
      exported[role] = {
        [role](batch) {
          const answers = new Array(batch.count);
          forEach(batch, (i) => {
            answers[i] = of[role](message) ?? pass;
          });
          return answers;
        },
      };
    }
  }
  if (of.each) exported.each = { onMessage: (single) => of.each(single) ?? pass };
  if (of.onTimer) exported.wakes = { onTimer: () => of.onTimer() };
  if (of.schema) exported.schema = { settings: () => JSON.stringify(of.schema) };
  return exported;
}
