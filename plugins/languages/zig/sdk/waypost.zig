//! Waypost plugins in Zig: the contract of wit/plugin.wit, by hand.
//!
//!     const waypost = @import("waypost");
//!     comptime {
//!         waypost.plugin(@This());
//!     }
//!
//! exports what the struct declares: `init` always, beside it `filter`, `transform`, `route`,
//! `each`, `onTimer` and `schema`, as many of them as the project's world (wit/world.wit) names:
//!
//!     pub fn init(config: *const Config) InitError!Interest
//!     pub fn filter(message: *const Message) Answer
//!     pub fn transform(message: *const Message) Outcome
//!     pub fn route(message: *const Message) Choice
//!     pub fn each(message: *const Single) EachOutcome
//!     pub fn onTimer() void
//!     pub const schema: []const u8
//!
//! A message is a view into the packed batch: a field that is never read costs nothing. Views, and
//! what comes from `allocator()`, are good until the call ends; what is allocated in init stays.
//! Only what is called becomes an import of the component.
const std = @import("std");
pub const host = @import("host.zig");
const raw = @import("raw.zig");

/// Memory until the end of the call; for good, in init.
pub const allocator = raw.allocator;
/// The pieces one after another, in memory of the call.
pub const join = raw.join;

pub const Header = struct { name: []const u8, value: []const u8 };

/// What `init` gets.
pub const Config = struct {
    plugin: []const u8,
    role: []const u8,
    instance: u32,
    /// Names and values, in the order of the configuration.
    settings: []const raw.Header,
    destinations: []const raw.Bytes,

    /// The value of a setting, of the last one of that name.
    pub fn get(config: *const Config, name: []const u8) ?[]const u8 {
        var i = config.settings.len;
        while (i > 0) {
            i -= 1;
            if (same(config.settings[i].name.slice(), name)) return config.settings[i].value.slice();
        }
        return null;
    }

    /// The value as a number.
    pub fn number(config: *const Config, name: []const u8) InitError!?f64 {
        const text = config.get(name) orelse return null;
        return parseNumber(text) orelse
            config.refuse(name, join(&.{ "'", text, "' is not a number" }));
    }

    /// Refuses settings that are not known, so that a slip of the pen is not passed over.
    pub fn allow(config: *const Config, comptime known: []const []const u8) InitError!void {
        next: for (config.settings) |setting| {
            for (known) |name| if (same(name, setting.name.slice())) continue :next;
            comptime var list: []const u8 = known[0];
            comptime for (known[1..]) |name| {
                list = list ++ ", " ++ name;
            };
            return config.refuse(setting.name.slice(), "unknown setting, expected one of " ++ list);
        }
    }

    /// The index of a destination of the route.
    pub fn destination(config: *const Config, name: []const u8) ?u32 {
        for (config.destinations, 0..) |found, i| if (same(found.slice(), name)) return @intCast(i);
        return null;
    }

    /// Refuses to start; return what it gives. The setting at fault may be null.
    pub fn refuse(_: *const Config, setting: ?[]const u8, message: []const u8) InitError {
        raw.refusal = .{ .setting = .of(setting), .message = .of(message) };
        return error.Refused;
    }
};

pub const InitError = error{Refused};

/// What the router must copy in. Topic, marks and receive time always are.
pub const Interest = struct {
    headers: union(enum) { nothing, only: []const []const u8, everything } = .nothing,
    payload: union(enum) { nothing, prefix: u32, everything } = .nothing,
    /// Any of "key", "content-type", "message-id", "reply-to", "ttl".
    fields: []const []const u8 = &.{},
    /// The most messages that one call may hold; 0 leaves it to the router.
    max_batch: u32 = 0,
};

/// One message of a batch.
pub const Message = struct {
    words: *const [raw.stride_min]u32,
    arena: []const u8,
    position: u32,

    inline fn field(message: *const Message, word: usize) []const u8 {
        const start = message.words[word];
        const len = message.words[word + 1];
        if (start > message.arena.len or len > message.arena.len - start) return &.{};
        return message.arena[start..][0..len];
    }

    inline fn marked(message: *const Message, mark: u32) bool {
        return message.words[0] & mark != 0;
    }

    fn wide(message: *const Message, word: usize) u64 {
        return message.words[word] | @as(u64, message.words[word + 1]) << 32;
    }

    pub fn topic(message: *const Message) []const u8 {
        return message.field(1);
    }

    /// The payload, or the part of it that was asked for.
    pub fn payload(message: *const Message) []const u8 {
        return message.field(5);
    }

    pub fn payloadLen(message: *const Message) u32 {
        return message.words[7];
    }

    /// The whole payload; what is not here is pulled from the router.
    pub fn wholePayload(message: *const Message) error{PayloadLost}![]const u8 {
        const here = message.payload();
        if (!message.marked(4)) return here;
        return host.pull(message.position, here, message.payloadLen());
    }

    pub fn receiveTimeMs(message: *const Message) u64 {
        return message.wide(8);
    }

    // These are there only if they were asked for and the message has them.

    pub fn key(message: *const Message) ?[]const u8 {
        return if (message.marked(16)) message.field(10) else null;
    }

    pub fn contentType(message: *const Message) ?[]const u8 {
        return if (message.marked(32)) message.field(12) else null;
    }

    pub fn messageId(message: *const Message) ?[]const u8 {
        return if (message.marked(64)) message.field(14) else null;
    }

    pub fn replyTo(message: *const Message) ?[]const u8 {
        return if (message.marked(128)) message.field(16) else null;
    }

    pub fn ttlMs(message: *const Message) ?u64 {
        return if (message.marked(8)) message.wide(18) else null;
    }

    pub fn redelivered(message: *const Message) bool {
        return message.marked(1);
    }

    pub fn fromPeer(message: *const Message) bool {
        return message.marked(2);
    }

    /// The headers that were asked for, in the publisher's order; names may repeat.
    pub fn headers(message: *const Message) Headers {
        return .{ .rest = message.field(3) };
    }

    /// The value of the first header with this name, if that header was asked for.
    pub inline fn header(message: *const Message, name: []const u8) ?[]const u8 {
        var all = message.headers();
        while (all.next()) |found| if (same(found.name, name)) return found.value;
        return null;
    }
};

pub const Headers = struct {
    rest: []const u8,

    pub inline fn next(headers: *Headers) ?Header {
        const rest = headers.rest;
        if (rest.len < 8) return null;
        const name_len = std.mem.readInt(u32, rest[0..4], .little);
        const value_len = std.mem.readInt(u32, rest[4..8], .little);
        const here = rest.len - 8;
        if (name_len > here or value_len > here - name_len) return null;
        headers.rest = rest[8 + name_len + value_len ..];
        return .{ .name = rest[8..][0..name_len], .value = rest[8 + name_len ..][0..value_len] };
    }
};

/// One message, as `each` gets it: the same fields, already there.
pub const Single = raw.Single;

pub const Decision = enum(u8) { pass, drop, reject, retry, dead_letter };

/// What a filter says of a message.
pub const Answer = struct {
    decision: Decision = .pass,
    reason: ?[]const u8 = null,

    pub const pass: Answer = .{};

    pub fn drop(reason: ?[]const u8) Answer {
        return .{ .decision = .drop, .reason = reason };
    }

    pub fn deadLetter(reason: []const u8) Answer {
        return .{ .decision = .dead_letter, .reason = reason };
    }
};

/// Changes to a message. What is null stays; an empty key or content type removes it.
pub const Edit = struct {
    topic: ?[]const u8 = null,
    key: ?[]const u8 = null,
    content_type: ?[]const u8 = null,
    remove_headers: []const []const u8 = &.{},
    set_headers: []const Header = &.{},
    payload: ?[]const u8 = null,
    ttl_ms: ?u64 = null,
};

/// A message that a plugin makes.
pub const Outgoing = struct {
    topic: []const u8,
    key: ?[]const u8 = null,
    content_type: ?[]const u8 = null,
    reply_to: ?[]const u8 = null,
    headers: []const Header = &.{},
    payload: []const u8 = &.{},
    ttl_ms: ?u64 = null,
};

/// What a transform says of a message.
pub const Outcome = union(enum) {
    pass,
    drop: ?[]const u8,
    edit: Edit,
    emit: []const Outgoing,
    reject: []const u8,
    /// after so many ms; 0 leaves it to the router
    retry: u32,
    dead_letter: []const u8,
};

/// What a route says of a message.
pub const Choice = union(enum) {
    pass,
    drop: ?[]const u8,
    one: u32,
    to: []const u32,
    reject: []const u8,
    retry: u32,
    dead_letter: []const u8,
};

/// What `each` says of its message.
pub const EachOutcome = union(enum) {
    pass,
    drop: ?[]const u8,
    edit: Edit,
    emit: []const Outgoing,
    to: []const u32,
    reject: []const u8,
    retry: u32,
    dead_letter: []const u8,
};

inline fn same(a: []const u8, b: []const u8) bool {
    return std.mem.eql(u8, a, b);
}

/// A number as JSON writes it, with nothing around it.
pub fn parseNumber(text: []const u8) ?f64 {
    const tens = [_]f64{ 1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15 };
    var at: usize = 0;
    var digits: u64 = 0;
    if (at < text.len and text[at] == '-') at += 1;
    const whole = at;
    while (at < text.len and std.ascii.isDigit(text[at])) : (at += 1) digits = digits *% 10 +% (text[at] - '0');
    if (at == whole or (text[whole] == '0' and at > whole + 1)) return null;
    var count = at - whole;
    var places: usize = 0;
    if (at < text.len and text[at] == '.') {
        at += 1;
        const point = at;
        while (at < text.len and std.ascii.isDigit(text[at])) : (at += 1) digits = digits *% 10 +% (text[at] - '0');
        places = at - point;
        count += places;
        if (places == 0) return null;
    }
    if (at == text.len and count < 16) {
        // Both are exact, so the quotient is the nearest double.
        const number = @as(f64, @floatFromInt(digits)) / tens[places];
        return if (whole > 0) -number else number;
    }
    if (at < text.len and (text[at] == 'e' or text[at] == 'E')) {
        at += 1;
        if (at < text.len and (text[at] == '+' or text[at] == '-')) at += 1;
        const exponent = at;
        while (at < text.len and std.ascii.isDigit(text[at])) at += 1;
        if (at == exponent) return null;
    }
    if (at != text.len) return null;
    const number = std.fmt.parseFloat(f64, text) catch return null;
    return if (std.math.isFinite(number)) number else null;
}

/// The shortest decimal that reads as this number again.
pub fn numberText(number: f64) []const u8 {
    return std.fmt.allocPrint(allocator(), "{d}", .{number}) catch @trap();
}

/// Exports a plugin; see the top of this file.
pub fn plugin(comptime P: type) void {
    raw.exportInit(P);
    if (@hasDecl(P, "filter")) raw.exportFilter(P);
    if (@hasDecl(P, "transform")) raw.exportTransform(P);
    if (@hasDecl(P, "route")) raw.exportRoute(P);
    if (@hasDecl(P, "each")) raw.exportEach(P);
    if (@hasDecl(P, "onTimer")) raw.exportWakes(P);
    if (@hasDecl(P, "schema")) raw.exportSchema(P);
}
