//! The reference plugin, in Zig: what it does is written in plugins/languages/README.md.
const std = @import("std");
const waypost = @import("waypost");
const Quake = @import("quake.zig").Quake;
const Rules = @import("rules.zig").Rules;

comptime {
    waypost.plugin(@This());
}

/// Most features are shorter; what is longer is pulled.
const payload_prefix = 4096;

var min: f64 = 3;
var header: ?[]const u8 = null;
var topic: ?[]const u8 = null;
var rules: Rules = .{};

pub fn init(config: *const waypost.Config) waypost.InitError!waypost.Interest {
    if (std.mem.eql(u8, config.role, "filter")) {
        try config.allow(&.{ "min-magnitude", "header" });
        if (try config.number("min-magnitude")) |number| min = number;
        header = config.get("header");
        if (header) |name| {
            const names = waypost.allocator().dupe([]const u8, &.{name}) catch @trap();
            return .{ .headers = .{ .only = names } };
        }
    } else if (std.mem.eql(u8, config.role, "transform")) {
        try config.allow(&.{"topic"});
        topic = config.get("topic");
    } else {
        try rules.read(config);
    }
    return .{ .payload = .{ .prefix = payload_prefix } };
}

pub inline fn filter(message: *const waypost.Message) waypost.Answer {
    const known = if (header) |name| known: {
        const text = message.header(name) orelse break :known null;
        break :known waypost.parseNumber(text) orelse
            return .deadLetter(waypost.join(&.{ "header '", name, "' is not a number" }));
    } else known: {
        var quake: Quake = .{};
        if (quake.read(message)) |bad| return .deadLetter(bad);
        break :known quake.magnitude;
    };
    const magnitude = known orelse return .drop("no magnitude");
    if (magnitude >= min) return .pass;
    return .drop(waypost.join(&.{
        "magnitude ", waypost.numberText(magnitude), " is below ", waypost.numberText(min),
    }));
}

pub fn transform(message: *const waypost.Message) waypost.Outcome {
    var quake: Quake = .{};
    if (quake.read(message)) |bad| return .{ .dead_letter = bad };
    const allocator = waypost.allocator();
    var edit: waypost.Edit = .{ .payload = quake.compact(), .content_type = "application/json" };
    if (topic) |pattern| {
        edit.topic = std.mem.replaceOwned(u8, allocator, pattern, "{topic}", message.topic()) catch @trap();
    }
    if (quake.magnitude) |magnitude| {
        edit.set_headers = allocator.dupe(waypost.Header, &.{
            .{ .name = "magnitude", .value = waypost.numberText(magnitude) },
        }) catch @trap();
    } else {
        edit.remove_headers = &.{"magnitude"};
    }
    return .{ .edit = edit };
}

pub fn route(message: *const waypost.Message) waypost.Choice {
    var quake: Quake = .{};
    if (quake.read(message)) |bad| return .{ .dead_letter = bad };
    return rules.choose(quake.magnitude);
}
