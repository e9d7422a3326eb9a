//! An earthquake, as a GeoJSON feature says it.
const std = @import("std");
const waypost = @import("waypost");

pub const Quake = struct {
    magnitude: ?f64 = null,
    feature: std.json.ObjectMap = .empty,
    properties: std.json.ObjectMap = .empty,

    /// Reads a message's payload; gives the reason for its dead letter if there is one.
    pub fn read(quake: *Quake, message: *const waypost.Message) ?[]const u8 {
        const payload = message.wholePayload() catch return "the payload cannot be read";
        // Numbers stay as they are written.
        const feature = std.json.parseFromSliceLeaky(std.json.Value, waypost.allocator(), payload, .{
            .parse_numbers = false,
            .duplicate_field_behavior = .use_last,
        }) catch |err| return waypost.join(&.{ "not JSON: ", @errorName(err) });
        quake.feature = object(feature) orelse return "not an earthquake: no properties";
        quake.properties = object(quake.feature.get("properties")) orelse
            return "not an earthquake: no properties";
        switch (quake.properties.get("mag") orelse .null) {
            .null => {},
            .number_string => |text| quake.magnitude = waypost.parseNumber(text) orelse
                return "not an earthquake: mag is not a number",
            else => return "not an earthquake: mag is not a number",
        }
        return null;
    }

    /// The compact JSON of it.
    pub fn compact(quake: *const Quake) []const u8 {
        var depth: std.json.Value = .null;
        if (object(quake.feature.get("geometry"))) |geometry| {
            switch (geometry.get("coordinates") orelse .null) {
                .array => |list| if (list.items.len > 2) {
                    depth = ifIs(.number_string, list.items[2]);
                },
                else => {},
            }
        }
        return std.json.Stringify.valueAlloc(waypost.allocator(), .{
            .id = ifIs(.string, quake.feature.get("id")),
            .mag = ifIs(.number_string, quake.properties.get("mag")),
            .place = ifIs(.string, quake.properties.get("place")),
            .time = ifIs(.number_string, quake.properties.get("time")),
            .depth = depth,
        }, .{}) catch @trap();
    }
};

fn object(value: ?std.json.Value) ?std.json.ObjectMap {
    return switch (value orelse .null) {
        .object => |members| members,
        else => null,
    };
}

fn ifIs(kind: std.meta.Tag(std.json.Value), value: ?std.json.Value) std.json.Value {
    const found = value orelse return .null;
    return if (found == kind) found else .null;
}
