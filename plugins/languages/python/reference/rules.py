"""Which magnitude goes to which destination."""

from quake import number_text
from waypost import Drop, Refusal, To


class Rules:
    def __init__(self, config):
        self.least = []
        self.otherwise = None
        self.all = False
        for name, value in config.settings:
            if name == "otherwise":
                self.otherwise = config.destination(value)
                if self.otherwise is None:
                    raise Refusal(name, f"'{value}' is not a destination of the route")
            elif name == "all":
                if value not in ("true", "false"):
                    raise Refusal(name, f"'{value}' is not true or false")
                self.all = value == "true"
            else:
                destination = config.destination(name)
                if destination is None:
                    raise Refusal(name, "not a destination of the route, otherwise or all")
                self.least.append((config.number(name), destination))
        if not self.least and self.otherwise is None:
            raise Refusal(None, "no rule: set a destination or otherwise")

    def choose(self, magnitude):
        reached = []
        if magnitude is not None:
            reached = [rule for rule in self.least if magnitude >= rule[0]]
        if reached and not self.all:
            reached = [max(reached, key=lambda rule: rule[0])]
        if reached:
            return To([destination for _, destination in reached])
        if self.otherwise is not None:
            return To([self.otherwise])
        if magnitude is None:
            return Drop("no magnitude")
        return Drop(f"no rule for magnitude {number_text(magnitude)}")
