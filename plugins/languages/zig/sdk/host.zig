//! What a plugin may ask of the router. Only what is called becomes an import of the component.
const std = @import("std");
const waypost = @import("waypost.zig");
const raw = @import("raw.zig");

const import = struct {
    extern "waypost:plugin/log@0.1.1" fn log(level: u32, at: [*]const u8, len: usize) void;
    extern "waypost:plugin/clock@0.1.1" fn @"now-ms"() u64;
    extern "waypost:plugin/clock@0.1.1" fn @"monotonic-ns"() u64;
    extern "waypost:plugin/random@0.1.1" fn number() u64;
    extern "waypost:plugin/metrics@0.1.1" fn counter(at: [*]const u8, len: usize) u32;
    extern "waypost:plugin/metrics@0.1.1" fn gauge(at: [*]const u8, len: usize) u32;
    extern "waypost:plugin/metrics@0.1.1" fn histogram(at: [*]const u8, len: usize) u32;
    extern "waypost:plugin/metrics@0.1.1" fn observe(handle: u32, value: f64) void;
    extern "waypost:plugin/payload@0.1.1" fn read(message: u32, offset: u32, len: u32, result: *ReadResult) void;
    extern "waypost:plugin/state@0.1.1" fn get(key: [*]const u8, len: usize, result: *raw.Maybe) void;
    extern "waypost:plugin/state@0.1.1" fn remove(key: [*]const u8, len: usize, result: *Short) void;
    extern "waypost:plugin/state@0.1.1" fn swap(key: [*]const u8, key_len: usize, has_expected: u32, expected: ?[*]const u8, expected_len: usize, has_value: u32, value: ?[*]const u8, value_len: usize, ttl_ms: u64, result: *Short) void;
    extern "waypost:plugin/state@0.1.1" fn scan(prefix: [*]const u8, prefix_len: usize, has_after: u32, after: ?[*]const u8, after_len: usize, limit: u32, result: *raw.List(raw.Header)) void;
    extern "waypost:plugin/publish@0.1.1" fn publish(params: *const Publishing, result: *Short) void;
};

// Names that occur in two interfaces have a struct each.
const import_metrics = struct {
    extern "waypost:plugin/metrics@0.1.1" fn add(handle: u32, delta: u64) void;
    extern "waypost:plugin/metrics@0.1.1" fn set(handle: u32, value: f64) void;
};
const import_state = struct {
    extern "waypost:plugin/state@0.1.1" fn set(key: [*]const u8, key_len: usize, value: [*]const u8, value_len: usize, ttl_ms: u64, result: *Short) void;
    extern "waypost:plugin/state@0.1.1" fn add(key: [*]const u8, key_len: usize, delta: i64, ttl_ms: u64, result: *Sum) void;
};
const import_timer = struct {
    extern "waypost:plugin/timer@0.1.1" fn set(after_ms: u32) void;
};

const ReadResult = extern struct { failed: bool, part: raw.Bytes };
const Short = extern struct { failed: bool, value: u8 };
const Sum = extern struct { failed: bool, value: extern union { sum: i64, refusal: u8 } };
const Publishing = extern struct { cause: u32, message: raw.Outgoing };

pub const Level = enum(u32) { trace, debug, info, warn, err };

pub fn log(level: Level, line: []const u8) void {
    import.log(@intFromEnum(level), line.ptr, line.len);
}

/// The wall clock, in ms since 1970; it may jump.
pub fn nowMs() u64 {
    return import.@"now-ms"();
}

/// A clock that never goes back, in ns from an arbitrary start.
pub fn monotonicNs() u64 {
    return import.@"monotonic-ns"();
}

/// A number that nobody can guess.
pub fn random() u64 {
    return import.number();
}

/// Numbers for the router's metrics. Register in init; the name is `[a-z][a-z0-9_]*`.
pub const Counter = struct {
    handle: u32,

    pub fn init(name: []const u8) Counter {
        return .{ .handle = import.counter(name.ptr, name.len) };
    }

    pub fn add(counter: Counter, delta: u64) void {
        import_metrics.add(counter.handle, delta);
    }
};

pub const Gauge = struct {
    handle: u32,

    pub fn init(name: []const u8) Gauge {
        return .{ .handle = import.gauge(name.ptr, name.len) };
    }

    pub fn set(gauge: Gauge, value: f64) void {
        import_metrics.set(gauge.handle, value);
    }
};

pub const Histogram = struct {
    handle: u32,

    pub fn init(name: []const u8) Histogram {
        return .{ .handle = import.histogram(name.ptr, name.len) };
    }

    pub fn observe(histogram: Histogram, value: f64) void {
        import.observe(histogram.handle, value);
    }
};

/// Bytes that payload.read gives at most in one call.
const pull_bytes_max = 1 << 20;

/// The whole payload of which `here` is the beginning; `Message.wholePayload` calls it.
pub fn pull(position: u32, here: []const u8, len: u32) error{PayloadLost}![]const u8 {
    const whole = waypost.allocator().alloc(u8, len) catch @trap();
    @memcpy(whole[0..here.len], here);
    var at = here.len;
    while (at < len) {
        var result: ReadResult = undefined;
        const wanted = @min(len - at, pull_bytes_max);
        import.read(position, @intCast(at), @intCast(wanted), &result);
        const part = result.part.slice();
        if (result.failed or part.len == 0 or part.len > len - at) return error.PayloadLost;
        @memcpy(whole[at..][0..part.len], part);
        at += part.len;
    }
    return whole;
}

/// Keys and values that the router keeps; needs the grant `state`.
pub const state = struct {
    pub const Refusal = error{ TooLarge, Full, ReadOnly, NotANumber };
    const refusals = [_]Refusal{ error.TooLarge, error.Full, error.ReadOnly, error.NotANumber };

    pub fn get(key: []const u8) ?[]const u8 {
        var result: raw.Maybe = undefined;
        import.get(key.ptr, key.len, &result);
        return result.get();
    }

    /// The value stays for so many ms, or for good with 0.
    pub fn set(key: []const u8, value: []const u8, ttl_ms: u64) Refusal!void {
        var result: Short = undefined;
        import_state.set(key.ptr, key.len, value.ptr, value.len, ttl_ms, &result);
        if (result.failed) return refusals[result.value & 3];
    }

    /// Whether it was there.
    pub fn remove(key: []const u8) Refusal!bool {
        var result: Short = undefined;
        import.remove(key.ptr, key.len, &result);
        return if (result.failed) refusals[result.value & 3] else result.value != 0;
    }

    /// Adds to a number, which begins as 0, and gives the sum.
    pub fn add(key: []const u8, delta: i64, ttl_ms: u64) Refusal!i64 {
        var result: Sum = undefined;
        import_state.add(key.ptr, key.len, delta, ttl_ms, &result);
        return if (result.failed) refusals[result.value.refusal & 3] else result.value.sum;
    }

    /// Sets the value (null removes it) if it is as expected; whether it was.
    pub fn swap(key: []const u8, expected: ?[]const u8, value: ?[]const u8, ttl_ms: u64) Refusal!bool {
        var result: Short = undefined;
        const old = expected orelse "";
        const new = value orelse "";
        import.swap(key.ptr, key.len, @intFromBool(expected != null), old.ptr, old.len, @intFromBool(value != null), new.ptr, new.len, ttl_ms, &result);
        return if (result.failed) refusals[result.value & 3] else result.value != 0;
    }

    /// Keys (as names) that begin with `prefix`, after the key `after`, in order.
    pub fn scan(prefix: []const u8, after: ?[]const u8, limit: u32) []const raw.Header {
        var result: raw.List(raw.Header) = undefined;
        const from = after orelse "";
        import.scan(prefix.ptr, prefix.len, @intFromBool(after != null), from.ptr, from.len, limit, &result);
        return result.slice();
    }
};

pub const PublishRefusal = error{ Forbidden, Invalid, Full, NotNow };

/// A message of the plugin's own, for the message at position `cause`; needs the grant `publish`.
pub fn publish(cause: u32, message: waypost.Outgoing) PublishRefusal!void {
    const refusals = [_]PublishRefusal{ error.Forbidden, error.Invalid, error.Full, error.NotNow };
    const params: Publishing = .{ .cause = cause, .message = .of(message) };
    var result: Short = undefined;
    import.publish(&params, &result);
    if (result.failed) return refusals[result.value & 3];
}

/// Calls `onTimer` once, after so many ms (at least 10); 0 stops it. Needs the grant `timer`.
pub fn timer(after_ms: u32) void {
    import_timer.set(after_ms);
}
