// What waypost.js is, to TypeScript; documented there.

type Bytes = Uint8Array;
type HeadersOf = Record<string, string | Bytes> | [string, string | Bytes][];

export interface Message {
  /** The place in the batch, from 0. */
  readonly position: number;
  readonly topic: string;
  /** The payload, or the part of it that was asked for. */
  readonly payload: Bytes;
  readonly payloadLength: number;
  wholePayload(): Bytes;
  readonly receiveTimeMs: number;
  readonly key: Bytes | undefined;
  readonly contentType: string | undefined;
  readonly messageId: Bytes | undefined;
  readonly replyTo: string | undefined;
  readonly ttlMs: number | undefined;
  readonly redelivered: boolean;
  readonly fromPeer: boolean;
  /** The value of the first header with this name, if that header was asked for. */
  header(name: string): Bytes | undefined;
  headerText(name: string): string | undefined;
  /** As JSON writes a number; NaN where it is none. Quicker than by way of its text. */
  headerNumber(name: string): number | undefined;
  headers(): [string, Bytes][];
}

/** One message, as `each` gets it. */
export interface Single {
  readonly position: number;
  readonly marks: number;
  readonly topic: string;
  readonly headers: [string, Bytes][];
  readonly payload: Bytes;
  readonly receiveTimeMs: number;
  readonly key: Bytes | null;
  readonly contentType: string | null;
  readonly messageId: Bytes | null;
  readonly replyTo: string | null;
  readonly ttlMs: number | null;
}

export interface Config {
  readonly plugin: string;
  readonly role: string;
  readonly instance: number;
  readonly settings: [string, string][];
  readonly destinations: string[];
  get(name: string): string | undefined;
  number(name: string): number | undefined;
  number(name: string, otherwise: number): number;
  allow(...known: string[]): void;
  destination(name: string): number | undefined;
}

export interface Interest {
  /** Names, or true for all. */
  headers?: string[] | true;
  /** True for all of it, or the first so many bytes. */
  payload?: boolean | number;
  fields?: ("key" | "content-type" | "message-id" | "reply-to" | "ttl")[];
  maxBatch?: number;
}

export interface Changes {
  topic?: string;
  key?: string | Bytes;
  contentType?: string;
  removeHeaders?: string[];
  setHeaders?: HeadersOf;
  payload?: string | Bytes;
  ttlMs?: number;
}

export interface Outgoing {
  topic: string;
  key?: string | Bytes;
  contentType?: string;
  replyTo?: string;
  headers?: HeadersOf;
  payload?: string | Bytes;
  ttlMs?: number;
}

interface Pass {
  tag: "pass";
}
interface Ended {
  tag: "drop" | "reject" | "retry" | "dead-letter";
  val: string | number | null;
}
interface Edited {
  tag: "edit" | "emit";
  val: unknown;
}
interface Sent {
  tag: "to";
  val: number[];
}

export const pass: Pass;
export function drop(reason?: string): Ended;
export function reject(reason?: string): Ended;
export function retry(afterMs?: number): Ended;
export function deadLetter(reason?: string): Ended;
export function edit(changes: Changes): Edited;
export function emit(...messages: Outgoing[]): Edited;
export function to(...destinations: number[]): Sent;

/** A message as `publish` takes it. */
export function outgoing(message: Outgoing): unknown;
export function text(bytes: Bytes): string | undefined;
export function bytes(text: string): Bytes;
/** JSON.parse that also throws, and does not trap, where the text is nested too deep. */
export function parseJson(text: string): unknown;
export function number(text: string): number | undefined;

export class Refusal extends Error {
  constructor(setting: string | undefined, message: string);
}

type Answer<T> = Pass | Ended | T | undefined;

export interface Plugin {
  init(config: Config): Interest | undefined;
  filter?(message: Message): Answer<never>;
  transform?(message: Message): Answer<Edited>;
  route?(message: Message): Answer<Sent>;
  each?(message: Single): Answer<Edited | Sent>;
  onTimer?(): void;
  schema?: object;
}

export function plugin(of: Plugin): {
  lifecycle: object;
  filter: object;
  transform: object;
  route: object;
  each: object;
  wakes: object;
  schema: object;
};
