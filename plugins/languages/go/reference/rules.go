package main

import (
	"waypost.local/waypost"
	"waypost.local/waypost/route"
)

type rule struct {
	least       float64
	destination uint32
}

// rules say which magnitude goes to which destination.
type rules struct {
	least        []rule
	otherwise    uint32
	hasOtherwise bool
	all          bool
}

func readRules(config *waypost.Config) (rules, error) {
	var read rules
	for _, setting := range config.Settings {
		name, value := setting.Name, setting.Value
		switch name {
		case "otherwise":
			read.otherwise, read.hasOtherwise = config.Destination(value)
			if !read.hasOtherwise {
				return read, waypost.Refuse(name, "'"+value+"' is not a destination of the route")
			}
		case "all":
			read.all = value == "true"
			if !read.all && value != "false" {
				return read, waypost.Refuse(name, "'"+value+"' is not true or false")
			}
		default:
			destination, ok := config.Destination(name)
			if !ok {
				return read, waypost.Refuse(name, "not a destination of the route, otherwise or all")
			}
			least, err := config.Number(name, 0)
			if err != nil {
				return read, err
			}
			read.least = append(read.least, rule{least, destination})
		}
	}
	if len(read.least) == 0 && !read.hasOtherwise {
		return read, waypost.Refuse("", "no rule: set a destination or otherwise")
	}
	return read, nil
}

func (r *rules) choose(mag magnitude) route.Choice {
	var to []uint32
	highest := 0.0
	for _, rule := range r.least {
		if !mag.known || mag.number < rule.least || (!r.all && to != nil && rule.least <= highest) {
			continue
		}
		highest = rule.least
		if !r.all {
			to = to[:0]
		}
		to = append(to, rule.destination)
	}
	switch {
	case len(to) == 1:
		return route.One(to[0])
	case len(to) > 1:
		return route.To(to...)
	case r.hasOtherwise:
		return route.One(r.otherwise)
	case mag.known:
		return route.Drop("no rule for magnitude " + text(mag.number))
	}
	return route.Drop("no magnitude")
}
