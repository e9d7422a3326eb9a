/* The reference plugin, in C: what it does is written in plugins/languages/README.md. */
#include "quake.h"

/* Most features are shorter; what is longer is pulled. */
#define PAYLOAD_PREFIX 4096

typedef struct {
    double least;
    uint32_t destination;
} rule;

static double min_magnitude = 3;
static bool has_header, has_topic;
static wp_bytes header, topic;
static rule *rules;
static uint32_t rule_count;
static bool has_otherwise, all;
static uint32_t otherwise;

static bool read_rules(const wp_config *config, wp_init_error *error) {
    rules = wp_alloc(config->settings.len * sizeof *rules);
    for (uint32_t i = 0; i < config->settings.len; i++) {
        wp_bytes name = config->settings.at[i].name, text = config->settings.at[i].value;
        rule *rule = &rules[rule_count];
        if (wp_same(name, wp_text("otherwise"))) {
            has_otherwise = wp_destination(config, text, &otherwise);
            if (!has_otherwise)
                return wp_refuse(error, name,
                                 WP_JOIN(wp_text("'"), text,
                                         wp_text("' is not a destination of the route")));
        } else if (wp_same(name, wp_text("all"))) {
            all = wp_same(text, wp_text("true"));
            if (!all && !wp_same(text, wp_text("false")))
                return wp_refuse(error, name,
                                 WP_JOIN(wp_text("'"), text, wp_text("' is not true or false")));
        } else {
            if (!wp_destination(config, name, &rule->destination))
                return wp_refuse(error, name,
                                 wp_text("not a destination of the route, otherwise or all"));
            if (!wp_number(text, &rule->least))
                return wp_refuse(error, name,
                                 WP_JOIN(wp_text("'"), text, wp_text("' is not a number")));
            rule_count++;
        }
    }
    if (!rule_count && !has_otherwise)
        return wp_refuse(error, (wp_bytes){NULL, 0},
                         wp_text("no rule: set a destination or otherwise"));
    return true;
}

static bool start(const wp_config *config, wp_interest *interest, wp_init_error *error) {
    wp_ask_payload_prefix(interest, PAYLOAD_PREFIX);
    if (wp_same(config->role, wp_text("filter"))) {
        if (!wp_settings_known(config, "min-magnitude, header", error)) return false;
        has_header = wp_setting(config, "header", &header);
        if (has_header) {
            interest->payload = WP_NOTHING;
            wp_ask_header(interest, header);
        }
        return wp_setting_number(config, "min-magnitude", &min_magnitude, error);
    }
    if (wp_same(config->role, wp_text("transform"))) {
        has_topic = wp_setting(config, "topic", &topic);
        return wp_settings_known(config, "topic", error);
    }
    return read_rules(config, error);
}

/* The magnitude of a header or of the payload. False: it is a dead letter. */
static inline bool magnitude_of(const wp_message *message, bool *has, double *magnitude,
                                wp_bytes *error) {
    if (has_header) {
        wp_bytes text;
        *has = wp_header_value(message, header, &text);
        if (!*has || wp_number(text, magnitude)) return true;
        *error = WP_JOIN(wp_text("header '"), header, wp_text("' is not a number"));
        return false;
    }
    quake quake;
    if (!quake_read(message, &quake, error)) return false;
    *has = quake.has_magnitude;
    *magnitude = quake.magnitude;
    return true;
}

static inline wp_decision judge(const wp_message *message, wp_bytes *reason) {
    bool has;
    double magnitude;
    if (!magnitude_of(message, &has, &magnitude, reason)) return WP_DEAD_LETTER;
    if (!has) {
        *reason = wp_text("no magnitude");
        return WP_DROP;
    }
    if (magnitude >= min_magnitude) return WP_PASS;
    *reason = WP_JOIN(wp_text("magnitude "), wp_number_text(magnitude), wp_text(" is below "),
                      wp_number_text(min_magnitude));
    return WP_DROP;
}

/* `topic` with the message's topic for each "{topic}". */
static wp_bytes topic_of(const wp_message *message) {
    wp_bytes mark = wp_text("{topic}"), rest = topic;
    wp_list pieces = {NULL, 0};
    uint32_t at = 0;
    while (at + mark.len <= rest.len) {
        if (!wp_same((wp_bytes){rest.at + at, mark.len}, mark)) {
            at++;
            continue;
        }
        wp_list_add(&pieces, (wp_bytes){rest.at, at});
        wp_list_add(&pieces, wp_topic(message));
        rest = (wp_bytes){rest.at + at + mark.len, rest.len - at - mark.len};
        at = 0;
    }
    wp_list_add(&pieces, rest);
    return wp_join(pieces.at, pieces.len);
}

static void change(const wp_message *message, wp_outcome *outcome) {
    quake quake;
    wp_bytes error;
    if (!quake_read(message, &quake, &error)) {
        wp_outcome_dead_letter(outcome, error);
        return;
    }
    wp_edit *edit = wp_edit_start(outcome);
    edit->payload = wp_some(quake_compact(&quake));
    edit->content_type = wp_some(wp_text("application/json"));
    if (has_topic) edit->topic = wp_some(topic_of(message));
    if (quake.has_magnitude)
        wp_set_header(&edit->set_headers, wp_text("magnitude"), wp_number_text(quake.magnitude));
    else
        wp_list_add(&edit->remove_headers, wp_text("magnitude"));
}

static void choose(const wp_message *message, wp_choice *choice) {
    quake quake;
    wp_bytes error;
    if (!quake_read(message, &quake, &error)) {
        wp_choice_dead_letter(choice, error);
        return;
    }
    uint32_t *to = wp_alloc(rule_count * sizeof *to), count = 0;
    double highest = 0;
    for (uint32_t i = 0; quake.has_magnitude && i < rule_count; i++) {
        if (quake.magnitude < rules[i].least) continue;
        if (!all && count && rules[i].least <= highest) continue;
        highest = rules[i].least;
        if (!all) count = 0;
        to[count++] = rules[i].destination;
    }
    if (count > 1) {
        choice->tag = WP_CHOICE_TO;
        choice->to.at = to;
        choice->to.len = count;
    } else if (count == 1) {
        wp_choice_one(choice, to[0]);
    } else if (has_otherwise) {
        wp_choice_one(choice, otherwise);
    } else if (quake.has_magnitude) {
        wp_choice_drop(choice, WP_JOIN(wp_text("no rule for magnitude "),
                                       wp_number_text(quake.magnitude)));
    } else {
        wp_choice_drop(choice, wp_text("no magnitude"));
    }
}

WP_INIT(start)
WP_FILTER(judge)
WP_TRANSFORM(change)
WP_ROUTE(choose)
