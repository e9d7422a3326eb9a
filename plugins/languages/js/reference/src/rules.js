// Which magnitude goes to which destination.
import { Refusal, drop, to } from "../../sdk/waypost.js";

export function readRules(config) {
  const rules = { least: [], otherwise: undefined, all: false };
  for (const [name, value] of config.settings) {
    if (name === "otherwise") {
      rules.otherwise = config.destination(value);
      if (rules.otherwise === undefined) {
        throw new Refusal(name, `'${value}' is not a destination of the route`);
      }
    } else if (name === "all") {
      if (value !== "true" && value !== "false") {
        throw new Refusal(name, `'${value}' is not true or false`);
      }
      rules.all = value === "true";
    } else {
      const destination = config.destination(name);
      if (destination === undefined) {
        throw new Refusal(name, "not a destination of the route, otherwise or all");
      }
      rules.least.push({ least: config.number(name), destination });
    }
  }
  if (rules.least.length === 0 && rules.otherwise === undefined) {
    throw new Refusal(undefined, "no rule: set a destination or otherwise");
  }
  return rules;
}

export function choose(rules, magnitude) {
  let reached = magnitude === null ? [] : rules.least.filter(({ least }) => magnitude >= least);
  if (!rules.all && reached.length > 1) {
    reached = [reached.reduce((best, rule) => (rule.least > best.least ? rule : best))];
  }
  if (reached.length > 0) return to(...reached.map(({ destination }) => destination));
  if (rules.otherwise !== undefined) return to(rules.otherwise);
  return drop(magnitude === null ? "no magnitude" : `no rule for magnitude ${magnitude}`);
}
