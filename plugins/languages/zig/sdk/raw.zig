//! What crosses the boundary, in the layout of the component model's canonical ABI on wasm32, and
//! the exports. Memory of a call is an arena that the next call uses again; the router's lists and
//! ours lie in it side by side.
const std = @import("std");
const waypost = @import("waypost.zig");

pub const package = "waypost:plugin/";
pub const version = "@0.1.1";
pub const stride_min = 20;
/// What one unusually large batch took is given back.
const kept_bytes_max = 4 << 20;

/// What init takes stays, so that it has an arena of its own.
var of_init = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var of_call = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var started = false;
/// The last call is over: whatever is allocated next belongs to another.
var over = false;

pub fn allocator() std.mem.Allocator {
    if (!started) return of_init.allocator();
    if (over) {
        over = false;
        _ = of_call.reset(.{ .retain_with_limit = kept_bytes_max });
    }
    return of_call.allocator();
}

fn room(comptime T: type, count: usize) []T {
    return allocator().alloc(T, count) catch @trap();
}

pub fn join(pieces: []const []const u8) []const u8 {
    return std.mem.concat(allocator(), u8, pieces) catch @trap();
}

/// What the router allocates with. Nothing needs more than 8.
fn realloc(old: [*]u8, old_bytes: usize, _: usize, bytes: usize) callconv(.c) [*]u8 {
    const made = allocator().alignedAlloc(u8, .@"8", @max(bytes, 1)) catch @trap();
    const kept = @min(old_bytes, bytes);
    if (kept > 0) @memcpy(made[0..kept], old[0..kept]);
    return made.ptr;
}

comptime {
    @export(&realloc, .{ .name = "cabi_realloc" });
}

pub const Bytes = List(u8);

pub fn List(comptime T: type) type {
    return extern struct {
        at: ?[*]const T = null,
        len: usize = 0,

        const Self = @This();

        pub fn of(items: []const T) Self {
            return .{ .at = items.ptr, .len = items.len };
        }

        pub inline fn slice(list: Self) []const T {
            return if (list.len == 0) &.{} else list.at.?[0..list.len];
        }
    };
}

pub const Maybe = extern struct {
    some: bool = false,
    value: Bytes = .{},

    pub fn of(maybe: ?[]const u8) Maybe {
        return if (maybe) |value| .{ .some = true, .value = .of(value) } else .{};
    }

    pub fn get(maybe: Maybe) ?[]const u8 {
        return if (maybe.some) maybe.value.slice() else null;
    }
};

const Maybe64 = extern struct {
    some: bool = false,
    value: u64 = 0,

    fn of(maybe: ?u64) Maybe64 {
        return if (maybe) |value| .{ .some = true, .value = value } else .{};
    }
};

pub const Header = extern struct {
    name: Bytes,
    value: Bytes,
};

const Edit = extern struct {
    topic: Maybe,
    key: Maybe,
    content_type: Maybe,
    remove_headers: List(Bytes),
    set_headers: List(Header),
    payload: Maybe,
    ttl_ms: Maybe64,

    fn of(edit: waypost.Edit) Edit {
        return .{
            .topic = .of(edit.topic),
            .key = .of(edit.key),
            .content_type = .of(edit.content_type),
            .remove_headers = texts(edit.remove_headers),
            .set_headers = headers(edit.set_headers),
            .payload = .of(edit.payload),
            .ttl_ms = .of(edit.ttl_ms),
        };
    }
};

pub const Outgoing = extern struct {
    topic: Bytes,
    key: Maybe,
    content_type: Maybe,
    reply_to: Maybe,
    headers: List(Header),
    payload: Bytes,
    ttl_ms: Maybe64,

    pub fn of(message: waypost.Outgoing) Outgoing {
        return .{
            .topic = .of(message.topic),
            .key = .of(message.key),
            .content_type = .of(message.content_type),
            .reply_to = .of(message.reply_to),
            .headers = headers(message.headers),
            .payload = .of(message.payload),
            .ttl_ms = .of(message.ttl_ms),
        };
    }
};

pub const Single = extern struct {
    position: u32,
    marks: u32,
    topic: Bytes,
    headers: List(Header),
    payload: Bytes,
    receive_time_ms: u64,
    key: Maybe,
    content_type: Maybe,
    message_id: Maybe,
    reply_to: Maybe,
    ttl_ms: Maybe64,
};

fn texts(list: []const []const u8) List(Bytes) {
    if (list.len == 0) return .{};
    const made = room(Bytes, list.len);
    for (made, list) |*to, from| to.* = .of(from);
    return .of(made);
}

fn headers(list: []const waypost.Header) List(Header) {
    if (list.len == 0) return .{};
    const made = room(Header, list.len);
    for (made, list) |*to, from| to.* = .{ .name = .of(from.name), .value = .of(from.value) };
    return .of(made);
}

fn messages(list: []const waypost.Outgoing) List(Outgoing) {
    const made = room(Outgoing, list.len);
    for (made, list) |*to, from| to.* = .of(from);
    return .of(made);
}

/// A variant, its cases in the order of `Of`, which is the contract's.
fn Variant(comptime Of: type) type {
    const Body = extern union {
        reason: Maybe,
        edit: if (@hasField(Of, "edit")) Edit else u32,
        emit: List(Outgoing),
        to: List(u32),
        text: Bytes,
        number: u32,
    };
    return extern struct {
        tag: u8,
        body: Body,

        inline fn set(to: *@This(), of: Of) void {
            to.tag = @intFromEnum(of);
            switch (of) {
                .pass => {},
                .drop => |reason| to.body = .{ .reason = .of(reason) },
                .reject, .dead_letter => |text| to.body = .{ .text = .of(text) },
                .retry => |after_ms| to.body = .{ .number = after_ms },
                // What only some of the roles have.
                inline else => |value| to.body = switch (@TypeOf(value)) {
                    waypost.Edit => .{ .edit = .of(value) },
                    []const waypost.Outgoing => .{ .emit = messages(value) },
                    []const u32 => .{ .to = .of(value) },
                    u32 => .{ .number = value },
                    else => comptime unreachable,
                },
            }
        }
    };
}

const Reason = extern struct { position: u32, text: Bytes };

const Result = extern struct {
    failed: bool,
    body: extern union {
        answers: extern struct {
            at: *const anyopaque,
            len: usize,
            reasons: List(Reason) = .{},
        },
        /// 0 invalid, 1 unavailable, 2 internal
        failure: extern struct { kind: u8, message: Bytes },
    },
};

var result: Result = undefined;

/// The messages of a call.
const Batch = struct {
    index: [*]const u32,
    stride: usize,
    arena: []const u8,

    inline fn message(batch: *const Batch, position: usize) waypost.Message {
        return .{
            .words = batch.index[position * batch.stride ..][0..stride_min],
            .arena = batch.arena,
            .position = @intCast(position),
        };
    }
};

fn bad(count: usize, stride: usize, index_len: usize) bool {
    if (stride >= stride_min and @as(u64, count) * stride <= index_len) return false;
    result = .{ .failed = true, .body = .{ .failure = .{
        .kind = 2,
        .message = .of("the batch's index does not hold its messages"),
    } } };
    return true;
}

fn ends() *const Result {
    over = true;
    return &result;
}

pub fn exportFilter(comptime P: type) void {
    const Export = struct {
        fn call(count: usize, stride: usize, index: [*]const u32, index_len: usize, arena: [*]const u8, arena_len: usize) callconv(.c) *const Result {
            if (bad(count, stride, index_len)) return ends();
            const batch: Batch = .{ .index = index, .stride = stride, .arena = arena[0..arena_len] };
            const each = room(waypost.Decision, count);
            var reasons: []Reason = &.{};
            var given: usize = 0;
            for (each, 0..) |*decision, i| {
                const message = batch.message(i);
                const answer = P.filter(&message);
                decision.* = answer.decision;
                if (answer.reason) |reason| {
                    if (given == 0) reasons = room(Reason, count - i);
                    reasons[given] = .{ .position = @intCast(i), .text = .of(reason) };
                    given += 1;
                }
            }
            result = .{ .failed = false, .body = .{ .answers = .{
                .at = each.ptr,
                .len = count,
                .reasons = .of(reasons[0..given]),
            } } };
            return ends();
        }
    };
    @export(&Export.call, .{ .name = package ++ "filter" ++ version ++ "#filter" });
}

pub fn exportTransform(comptime P: type) void {
    exportVariants("transform", waypost.Outcome, P.transform);
}

pub fn exportRoute(comptime P: type) void {
    exportVariants("route", waypost.Choice, P.route);
}

fn exportVariants(comptime role: []const u8, comptime Of: type, comptime answer: anytype) void {
    const Export = struct {
        fn call(count: usize, stride: usize, index: [*]const u32, index_len: usize, arena: [*]const u8, arena_len: usize) callconv(.c) *const Result {
            if (bad(count, stride, index_len)) return ends();
            const batch: Batch = .{ .index = index, .stride = stride, .arena = arena[0..arena_len] };
            const answers = room(Variant(Of), count);
            for (answers, 0..) |*to, i| {
                const message = batch.message(i);
                to.set(answer(&message));
            }
            result = .{ .failed = false, .body = .{ .answers = .{ .at = answers.ptr, .len = count } } };
            return ends();
        }
    };
    @export(&Export.call, .{ .name = package ++ role ++ version ++ "#" ++ role });
}

pub fn exportEach(comptime P: type) void {
    const Export = struct {
        var outcome: extern struct { failed: bool, value: Variant(waypost.EachOutcome) } = undefined;

        fn call(message: *const Single) callconv(.c) *const anyopaque {
            outcome.failed = false;
            outcome.value.set(P.each(message));
            over = true;
            return &outcome;
        }
    };
    @export(&Export.call, .{ .name = package ++ "each" ++ version ++ "#on-message" });
}

pub fn exportWakes(comptime P: type) void {
    const Export = struct {
        fn call() callconv(.c) *const Result {
            P.onTimer();
            result.failed = false;
            return ends();
        }
    };
    @export(&Export.call, .{ .name = package ++ "wakes" ++ version ++ "#on-timer" });
}

pub fn exportSchema(comptime P: type) void {
    const Export = struct {
        const schema: Bytes = .of(P.schema);

        fn call() callconv(.c) *const Bytes {
            return &schema;
        }
    };
    @export(&Export.call, .{ .name = package ++ "schema" ++ version ++ "#settings" });
}

/// Why init refuses, while it does.
pub var refusal: InitFailure = undefined;

const InitFailure = extern struct { setting: Maybe, message: Bytes };

const Interest = extern struct {
    headers: u8,
    names: List(Bytes),
    payload: u8,
    prefix: u32,
    fields: List(Bytes),
    max_batch: u32,

    fn of(interest: waypost.Interest) Interest {
        return .{
            .headers = @intFromEnum(interest.headers),
            .names = switch (interest.headers) {
                .only => |names| texts(names),
                else => .{},
            },
            .payload = @intFromEnum(interest.payload),
            .prefix = switch (interest.payload) {
                .prefix => |bytes| bytes,
                else => 0,
            },
            .fields = texts(interest.fields),
            .max_batch = interest.max_batch,
        };
    }
};

var init_result: extern struct {
    failed: bool,
    body: extern union { interest: Interest, failure: InitFailure },
} = undefined;

pub fn exportInit(comptime P: type) void {
    const Export = struct {
        fn call(name: Bytes1, name_len: usize, role: Bytes1, role_len: usize, instance: u32, settings: ?[*]const Header, settings_len: usize, destinations: ?[*]const Bytes, destinations_len: usize) callconv(.c) *const anyopaque {
            const config: waypost.Config = .{
                .plugin = (Bytes{ .at = name, .len = name_len }).slice(),
                .role = (Bytes{ .at = role, .len = role_len }).slice(),
                .instance = instance,
                .settings = (List(Header){ .at = settings, .len = settings_len }).slice(),
                .destinations = (List(Bytes){ .at = destinations, .len = destinations_len }).slice(),
            };
            if (P.init(&config)) |interest| {
                init_result = .{ .failed = false, .body = .{ .interest = .of(interest) } };
            } else |_| {
                init_result = .{ .failed = true, .body = .{ .failure = refusal } };
            }
            started = true;
            over = true;
            return &init_result;
        }
    };
    @export(&Export.call, .{ .name = package ++ "lifecycle" ++ version ++ "#init" });
}

const Bytes1 = ?[*]const u8;
