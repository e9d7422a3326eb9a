// What a plugin may import of the router, as far as its world names it; see wit/plugin.wit.

declare module "waypost:plugin/log@0.1.1" {
  const log: { log(level: "trace" | "debug" | "info" | "warn" | "error", message: string): void };
  export default log;
}

declare module "waypost:plugin/clock@0.1.1" {
  const clock: { nowMs(): number; monotonicNs(): number };
  export default clock;
}

declare module "waypost:plugin/random@0.1.1" {
  const random: { bytes(len: number): Uint8Array; number(): number };
  export default random;
}

declare module "waypost:plugin/metrics@0.1.1" {
  const metrics: {
    counter(name: string): number;
    gauge(name: string): number;
    histogram(name: string): number;
    add(handle: number, delta: number): void;
    set(handle: number, value: number): void;
    observe(handle: number, value: number): void;
  };
  export default metrics;
}

declare module "waypost:plugin/state@0.1.1" {
  /** What is refused is thrown: "too-large", "full", "read-only" or "not-a-number". */
  const state: {
    get(key: Uint8Array): Uint8Array | null;
    set(key: Uint8Array, value: Uint8Array, ttlMs: number): void;
    remove(key: Uint8Array): boolean;
    add(key: Uint8Array, delta: number, ttlMs: number): number;
    swap(
      key: Uint8Array,
      expected: Uint8Array | null,
      value: Uint8Array | null,
      ttlMs: number,
    ): boolean;
    scan(prefix: Uint8Array, after: Uint8Array | null, limit: number): [Uint8Array, Uint8Array][];
  };
  export default state;
}

declare module "waypost:plugin/publish@0.1.1" {
  /** `message` is made with `outgoing`. Refused: "forbidden", "invalid", "full" or "not-now". */
  const publish: { publish(cause: number, message: unknown): void };
  export default publish;
}

declare module "waypost:plugin/timer@0.1.1" {
  const timer: { set(afterMs: number): void };
  export default timer;
}
