//! Which magnitude goes to which destination.
const std = @import("std");
const waypost = @import("waypost");

pub const Rules = struct {
    least: []const Rule = &.{},
    otherwise: ?u32 = null,
    all: bool = false,

    const Rule = struct { least: f64, destination: u32 };

    pub fn read(rules: *Rules, config: *const waypost.Config) waypost.InitError!void {
        const least = waypost.allocator().alloc(Rule, config.settings.len) catch @trap();
        var count: usize = 0;
        for (config.settings) |setting| {
            const name = setting.name.slice();
            const value = setting.value.slice();
            if (std.mem.eql(u8, name, "otherwise")) {
                rules.otherwise = config.destination(value) orelse
                    return config.refuse(name, waypost.join(&.{ "'", value, "' is not a destination of the route" }));
            } else if (std.mem.eql(u8, name, "all")) {
                rules.all = std.mem.eql(u8, value, "true");
                if (!rules.all and !std.mem.eql(u8, value, "false"))
                    return config.refuse(name, waypost.join(&.{ "'", value, "' is not true or false" }));
            } else {
                const destination = config.destination(name) orelse
                    return config.refuse(name, "not a destination of the route, otherwise or all");
                const number = (try config.number(name)).?;
                least[count] = .{ .least = number, .destination = destination };
                count += 1;
            }
        }
        rules.least = least[0..count];
        if (count == 0 and rules.otherwise == null)
            return config.refuse(null, "no rule: set a destination or otherwise");
    }

    pub fn choose(rules: *const Rules, known: ?f64) waypost.Choice {
        var to: []u32 = &.{};
        if (known) |magnitude| {
            const reached = waypost.allocator().alloc(u32, rules.least.len) catch @trap();
            var count: usize = 0;
            var highest: f64 = 0;
            for (rules.least) |rule| {
                if (magnitude < rule.least) continue;
                if (!rules.all and count > 0 and rule.least <= highest) continue;
                highest = rule.least;
                if (!rules.all) count = 0;
                reached[count] = rule.destination;
                count += 1;
            }
            to = reached[0..count];
        }
        if (to.len == 1) return .{ .one = to[0] };
        if (to.len > 1) return .{ .to = to };
        if (rules.otherwise) |otherwise| return .{ .one = otherwise };
        const magnitude = known orelse return .{ .drop = "no magnitude" };
        return .{ .drop = waypost.join(&.{ "no rule for magnitude ", waypost.numberText(magnitude) }) };
    }
};
