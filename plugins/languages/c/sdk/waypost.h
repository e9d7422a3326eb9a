/* Waypost plugins in C: the contract of wit/plugin.wit, by hand.
 *
 * A plugin says what it reads in an init function and answers for each message in one role:
 *
 *     WP_INIT(start)          bool start(const wp_config *, wp_interest *, wp_init_error *)
 *     WP_FILTER(judge)        wp_decision judge(const wp_message *, wp_bytes *reason)
 *     WP_TRANSFORM(change)    void change(const wp_message *, wp_outcome *)
 *     WP_ROUTE(choose)        void choose(const wp_message *, wp_choice *)
 *     WP_EACH(answer)         void answer(const wp_single *, wp_each_outcome *)
 *     WP_WAKES(tick)          void tick(void)
 *     WP_SCHEMA("{...}")      a JSON Schema of the settings
 *
 * Beside WP_INIT there are as many of them as the project's world (wit/world.wit) exports.
 *
 * A message is a view into the packed batch: a field that is never read costs nothing. Views, and
 * what wp_alloc and the helpers here give, are good until the call ends; what is allocated in init
 * stays. Only what is called becomes an import of the component.
 *
 * The structs below have the layout of the component model's canonical ABI on wasm32; the router
 * reads answers straight out of them. */
#ifndef WAYPOST_H
#define WAYPOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Text (UTF-8) or bytes, not terminated. */
typedef struct {
    const uint8_t *at;
    uint32_t len;
} wp_bytes;

typedef struct {
    bool some;
    wp_bytes value;
} wp_maybe;

typedef struct {
    bool some;
    uint64_t value;
} wp_maybe_u64;

typedef struct {
    wp_bytes name, value;
} wp_header;

typedef struct {
    wp_header *at;
    uint32_t len;
} wp_headers;

typedef struct {
    wp_bytes *at;
    uint32_t len;
} wp_list;

static inline wp_bytes wp_text(const char *text) {
    return (wp_bytes){(const uint8_t *)text, (uint32_t)strlen(text)};
}

static inline bool wp_same(wp_bytes a, wp_bytes b) {
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

/* Memory until the end of the call; for good, in init. Never NULL: without memory it traps. */
void *wp_alloc(size_t bytes);
/* The pieces one after another. */
wp_bytes wp_join(const wp_bytes *pieces, uint32_t count);
#define WP_JOIN(...) \
    wp_join((const wp_bytes[]){__VA_ARGS__}, sizeof((const wp_bytes[]){__VA_ARGS__}) / sizeof(wp_bytes))
/* A number as JSON writes it, with nothing around it. */
bool wp_number(wp_bytes text, double *number);
/* The shortest decimal that reads as this number again, without an exponent where it is short. */
wp_bytes wp_number_text(double number);

/* --- what init deals with --- */

typedef struct {
    wp_bytes plugin, role;
    uint32_t instance;
    wp_headers settings; /* names and values, in the order of the configuration */
    wp_list destinations;
} wp_config;

/* Starts as nothing: topic, marks and receive time only. */
typedef struct {
    uint8_t headers; /* WP_NOTHING, WP_ONLY, WP_EVERYTHING */
    wp_list header_names;
    uint8_t payload; /* WP_NOTHING, WP_PREFIX, WP_EVERYTHING */
    uint32_t payload_prefix;
    wp_list fields;
    uint32_t max_batch;
} wp_interest;

enum { WP_NOTHING, WP_ONLY, WP_EVERYTHING };
enum { WP_PREFIX = 1 };

typedef struct {
    wp_maybe setting;
    wp_bytes message;
} wp_init_error;

/* The value of a setting, of the last one of that name. */
bool wp_setting(const wp_config *config, const char *name, wp_bytes *value);
/* The same as a number, which is left alone where the setting is absent; false refuses it. */
bool wp_setting_number(const wp_config *config, const char *name, double *number,
                       wp_init_error *error);
/* Refuses settings that are not in `known`, words divided by ", ". */
bool wp_settings_known(const wp_config *config, const char *known, wp_init_error *error);
/* The index of a destination of the route. */
bool wp_destination(const wp_config *config, wp_bytes name, uint32_t *index);
/* Fills the error; always false. `setting` may be empty: no setting is at fault. */
bool wp_refuse(wp_init_error *error, wp_bytes setting, wp_bytes message);

void wp_ask_header(wp_interest *interest, wp_bytes name);
/* One of "key", "content-type", "message-id", "reply-to", "ttl". */
void wp_ask_field(wp_interest *interest, const char *name);
void wp_ask_payload_prefix(wp_interest *interest, uint32_t bytes);

/* --- messages of a batch --- */

typedef struct {
    const uint32_t *words;
    const uint8_t *arena;
    uint32_t arena_len;
    uint32_t position;
} wp_message;

enum {
    WP_REDELIVERED = 1,
    WP_FROM_PEER = 2,
    WP_PAYLOAD_CUT = 4,
    WP_HAS_TTL = 8,
    WP_HAS_KEY = 16,
    WP_HAS_CONTENT_TYPE = 32,
    WP_HAS_MESSAGE_ID = 64,
    WP_HAS_REPLY_TO = 128,
    WP_STRIDE_MIN = 20,
};

/* The field that the words at `word` place; empty where they lie. */
static inline wp_bytes wp_field(const wp_message *message, uint32_t word) {
    uint32_t start = message->words[word], len = message->words[word + 1];
    bool inside = start <= message->arena_len && len <= message->arena_len - start;
    return (wp_bytes){message->arena + (inside ? start : 0), inside ? len : 0};
}

static inline bool wp_marked(const wp_message *message, uint32_t mark) {
    return (message->words[0] & mark) != 0;
}

static inline uint64_t wp_wide(const wp_message *message, uint32_t word) {
    return message->words[word] | (uint64_t)message->words[word + 1] << 32;
}

static inline wp_bytes wp_topic(const wp_message *message) { return wp_field(message, 1); }
/* The payload, or the part of it that was asked for. */
static inline wp_bytes wp_payload(const wp_message *message) { return wp_field(message, 5); }
static inline uint32_t wp_payload_len(const wp_message *message) { return message->words[7]; }
/* The whole payload; what is not here is pulled from the router. False if it cannot be. */
bool wp_whole_payload(const wp_message *message, wp_bytes *payload);

static inline uint64_t wp_receive_time_ms(const wp_message *message) { return wp_wide(message, 8); }

static inline bool wp_marked_field(const wp_message *message, uint32_t mark, uint32_t word,
                                   wp_bytes *value) {
    *value = wp_field(message, word);
    return wp_marked(message, mark);
}

/* These are there only if they were asked for, and the message has them. */
static inline bool wp_key(const wp_message *message, wp_bytes *value) {
    return wp_marked_field(message, WP_HAS_KEY, 10, value);
}
static inline bool wp_content_type(const wp_message *message, wp_bytes *value) {
    return wp_marked_field(message, WP_HAS_CONTENT_TYPE, 12, value);
}
static inline bool wp_message_id(const wp_message *message, wp_bytes *value) {
    return wp_marked_field(message, WP_HAS_MESSAGE_ID, 14, value);
}
static inline bool wp_reply_to(const wp_message *message, wp_bytes *value) {
    return wp_marked_field(message, WP_HAS_REPLY_TO, 16, value);
}
static inline bool wp_ttl_ms(const wp_message *message, uint64_t *ttl_ms) {
    *ttl_ms = wp_wide(message, 18);
    return wp_marked(message, WP_HAS_TTL);
}

/* Cuts the next header off `rest`, which begins as wp_field(message, 3). */
static inline bool wp_next_header(wp_bytes *rest, wp_header *header) {
    uint32_t name_len, value_len;
    if (rest->len < 8) return false;
    memcpy(&name_len, rest->at, 4);
    memcpy(&value_len, rest->at + 4, 4);
    uint32_t here = rest->len - 8;
    if (name_len > here || value_len > here - name_len) return false;
    header->name = (wp_bytes){rest->at + 8, name_len};
    header->value = (wp_bytes){rest->at + 8 + name_len, value_len};
    rest->at += 8 + name_len + value_len;
    rest->len = here - name_len - value_len;
    return true;
}

/* The value of the first header with this name, if that header was asked for. */
static inline bool wp_header_value(const wp_message *message, wp_bytes name, wp_bytes *value) {
    wp_bytes rest = wp_field(message, 3);
    wp_header header;
    while (wp_next_header(&rest, &header)) {
        if (wp_same(header.name, name)) {
            *value = header.value;
            return true;
        }
    }
    return false;
}

/* --- answers --- */

typedef uint8_t wp_decision;
enum { WP_PASS, WP_DROP, WP_REJECT, WP_RETRY, WP_DEAD_LETTER };

/* What is absent stays. Begin with wp_edit_start. */
typedef struct {
    wp_maybe topic, key, content_type;
    wp_list remove_headers;
    wp_headers set_headers;
    wp_maybe payload;
    wp_maybe_u64 ttl_ms;
} wp_edit;

typedef struct {
    wp_bytes topic;
    wp_maybe key, content_type, reply_to;
    wp_headers headers;
    wp_bytes payload;
    wp_maybe_u64 ttl_ms;
} wp_outgoing;

typedef struct {
    uint8_t tag;
    union {
        wp_maybe reason;
        wp_edit edit;
        struct {
            wp_outgoing *at;
            uint32_t len;
        } emit;
        wp_bytes text;
        uint32_t number;
    };
} wp_outcome;
enum {
    WP_OUTCOME_PASS,
    WP_OUTCOME_DROP,
    WP_OUTCOME_EDIT,
    WP_OUTCOME_EMIT,
    WP_OUTCOME_REJECT,
    WP_OUTCOME_RETRY,
    WP_OUTCOME_DEAD_LETTER,
};

typedef struct {
    uint8_t tag;
    union {
        wp_maybe reason;
        uint32_t number;
        struct {
            uint32_t *at;
            uint32_t len;
        } to;
        wp_bytes text;
    };
} wp_choice;
enum {
    WP_CHOICE_PASS,
    WP_CHOICE_DROP,
    WP_CHOICE_ONE,
    WP_CHOICE_TO,
    WP_CHOICE_REJECT,
    WP_CHOICE_RETRY,
    WP_CHOICE_DEAD_LETTER,
};

typedef struct {
    uint8_t tag;
    union {
        wp_maybe reason;
        wp_edit edit;
        struct {
            wp_outgoing *at;
            uint32_t len;
        } emit;
        struct {
            uint32_t *at;
            uint32_t len;
        } to;
        wp_bytes text;
        uint32_t number;
    };
} wp_each_outcome;
enum {
    WP_EACH_PASS,
    WP_EACH_DROP,
    WP_EACH_EDIT,
    WP_EACH_EMIT,
    WP_EACH_TO,
    WP_EACH_REJECT,
    WP_EACH_RETRY,
    WP_EACH_DEAD_LETTER,
};

static inline wp_maybe wp_some(wp_bytes value) { return (wp_maybe){true, value}; }

/* Answers in short; for what has none, set `tag` and the member. An answer that is not touched is
 * pass. */
static inline wp_edit *wp_edit_start(wp_outcome *outcome) {
    outcome->tag = WP_OUTCOME_EDIT;
    memset(&outcome->edit, 0, sizeof outcome->edit);
    return &outcome->edit;
}
static inline void wp_outcome_drop(wp_outcome *outcome, wp_bytes reason) {
    outcome->tag = WP_OUTCOME_DROP;
    outcome->reason = wp_some(reason);
}
static inline void wp_outcome_dead_letter(wp_outcome *outcome, wp_bytes reason) {
    outcome->tag = WP_OUTCOME_DEAD_LETTER;
    outcome->text = reason;
}
static inline void wp_choice_drop(wp_choice *choice, wp_bytes reason) {
    choice->tag = WP_CHOICE_DROP;
    choice->reason = wp_some(reason);
}
static inline void wp_choice_one(wp_choice *choice, uint32_t destination) {
    choice->tag = WP_CHOICE_ONE;
    choice->number = destination;
}
static inline void wp_choice_dead_letter(wp_choice *choice, wp_bytes reason) {
    choice->tag = WP_CHOICE_DEAD_LETTER;
    choice->text = reason;
}
void wp_set_header(wp_headers *headers, wp_bytes name, wp_bytes value);
void wp_list_add(wp_list *list, wp_bytes item);

/* --- one message at a time --- */

typedef struct {
    uint32_t position, marks;
    wp_bytes topic;
    wp_headers headers;
    wp_bytes payload;
    uint64_t receive_time_ms;
    wp_maybe key, content_type, message_id, reply_to;
    wp_maybe_u64 ttl_ms;
} wp_single;

/* --- what a plugin may ask of the router --- */

typedef enum { WP_TRACE, WP_DEBUG, WP_INFO, WP_WARN, WP_ERROR } wp_level;
void wp_log(wp_level level, wp_bytes line);
uint64_t wp_now_ms(void);
uint64_t wp_monotonic_ns(void);
void wp_random(uint8_t *into, uint32_t len);
uint64_t wp_random_number(void);

/* Register in init; then use the handle. */
uint32_t wp_counter(const char *name);
uint32_t wp_gauge(const char *name);
uint32_t wp_histogram(const char *name);
void wp_counter_add(uint32_t counter, uint64_t delta);
void wp_gauge_set(uint32_t gauge, double value);
void wp_histogram_observe(uint32_t histogram, double value);

/* These need the grants `state`, `publish` and `timer`. */
typedef enum {
    WP_STATE_DONE = -1,
    WP_STATE_TOO_LARGE,
    WP_STATE_FULL,
    WP_STATE_READ_ONLY,
    WP_STATE_NOT_A_NUMBER,
} wp_state_result;
bool wp_state_get(wp_bytes key, wp_bytes *value);
wp_state_result wp_state_set(wp_bytes key, wp_bytes value, uint64_t ttl_ms);
wp_state_result wp_state_remove(wp_bytes key, bool *was_there);
wp_state_result wp_state_add(wp_bytes key, int64_t delta, uint64_t ttl_ms, int64_t *sum);
wp_state_result wp_state_swap(wp_bytes key, wp_maybe expected, wp_maybe value, uint64_t ttl_ms,
                              bool *swapped);
/* Keys are names, and values values. */
wp_headers wp_state_scan(wp_bytes prefix, wp_maybe after, uint32_t limit);

typedef enum {
    WP_PUBLISH_DONE = -1,
    WP_PUBLISH_FORBIDDEN,
    WP_PUBLISH_INVALID,
    WP_PUBLISH_FULL,
    WP_PUBLISH_NOT_NOW,
} wp_publish_result;
wp_publish_result wp_publish(uint32_t cause, const wp_outgoing *message);
void wp_timer_set(uint32_t after_ms);

/* --- exports: what the macros expand to --- */

#define WP_PACKAGE "waypost:plugin/"
#define WP_VERSION "@0.1.1"
#define WP_EXPORT(name) __attribute__((export_name(WP_PACKAGE name)))
#define WP_PARAMS                                                                              \
    uint32_t count, uint32_t stride, const uint32_t *index, uint32_t index_len,                \
        const uint8_t *arena, uint32_t arena_len

typedef struct {
    uint8_t failed;
    union {
        struct {
            void *at;
            uint32_t len;
            void *reasons;
            uint32_t reasons_len;
        } answers;
        struct {
            uint8_t kind; /* 0 invalid, 1 unavailable, 2 internal */
            wp_bytes message;
        } error;
    };
} wp_result;

typedef struct {
    uint32_t position;
    wp_bytes text;
} wp_reason;

extern wp_result wp_the_result;
void wp_call_begins(void);
void *wp_call_ends(void *result);
/* Fills the result with an error of the call. */
void *wp_fail(const char *message);
void *wp_run_init(bool (*init)(const wp_config *, wp_interest *, wp_init_error *),
                  const wp_config *config);

#define WP_BATCH(given_answers, ...)                                                             \
    wp_call_begins();                                                                          \
    if (stride < WP_STRIDE_MIN || (uint64_t)count * stride > index_len)                        \
        return wp_fail("the batch's index does not hold its messages");                        \
    wp_the_result.failed = 0;                                                                  \
    wp_the_result.answers.at = given_answers;                                                  \
    wp_the_result.answers.len = count;                                                         \
    for (uint32_t i = 0; i < count; i++) {                                                     \
        wp_message message = {index + (size_t)i * stride, arena, arena_len, i};                \
        __VA_ARGS__;                                                                           \
    }                                                                                          \
    return wp_call_ends(&wp_the_result)

#define WP_INIT(function)                                                                      \
    WP_EXPORT("lifecycle" WP_VERSION "#init")                                                  \
    void *wp_export_init(wp_bytes *plugin, uint32_t plugin_len, wp_bytes *role,                \
                         uint32_t role_len, uint32_t instance, wp_header *settings,            \
                         uint32_t settings_len, wp_bytes *destinations,                        \
                         uint32_t destinations_len) {                                          \
        wp_config config = {{(uint8_t *)plugin, plugin_len}, {(uint8_t *)role, role_len},      \
                            instance, {settings, settings_len},                                \
                            {destinations, destinations_len}};                                 \
        return wp_run_init(function, &config);                                                 \
    }

#define WP_FILTER(function)                                                                    \
    WP_EXPORT("filter" WP_VERSION "#filter")                                                   \
    void *wp_export_filter(WP_PARAMS) {                                                        \
        wp_decision *each = wp_alloc(count);                                                   \
        wp_reason *reasons = NULL;                                                             \
        uint32_t given = 0;                                                                    \
        WP_BATCH(each, {                                                                       \
            wp_bytes reason = {NULL, 0};                                                       \
            each[i] = function(&message, &reason);                                             \
            if (reason.at) {                                                                   \
                if (!reasons) reasons = wp_alloc((count - i) * sizeof *reasons);               \
                reasons[given++] = (wp_reason){i, reason};                                     \
                wp_the_result.answers.reasons = reasons;                                       \
                wp_the_result.answers.reasons_len = given;                                     \
            }                                                                                  \
        });                                                                                    \
    }

#define WP_TRANSFORM(function)                                                                 \
    WP_EXPORT("transform" WP_VERSION "#transform")                                             \
    void *wp_export_transform(WP_PARAMS) {                                                     \
        wp_outcome *outcomes = wp_alloc((size_t)count * sizeof *outcomes);                     \
        WP_BATCH(outcomes, {                                                                   \
            outcomes[i].tag = WP_OUTCOME_PASS;                                                 \
            function(&message, &outcomes[i]);                                                  \
        });                                                                                    \
    }

#define WP_ROUTE(function)                                                                     \
    WP_EXPORT("route" WP_VERSION "#route")                                                     \
    void *wp_export_route(WP_PARAMS) {                                                         \
        wp_choice *choices = wp_alloc((size_t)count * sizeof *choices);                        \
        WP_BATCH(choices, {                                                                    \
            choices[i].tag = WP_CHOICE_PASS;                                                   \
            function(&message, &choices[i]);                                                   \
        });                                                                                    \
    }

#define WP_EACH(function)                                                                      \
    WP_EXPORT("each" WP_VERSION "#on-message")                                                 \
    void *wp_export_each(const wp_single *message) {                                           \
        static struct {                                                                        \
            uint8_t failed;                                                                    \
            wp_each_outcome outcome;                                                           \
        } result;                                                                              \
        wp_call_begins();                                                                      \
        result.outcome.tag = WP_EACH_PASS;                                                     \
        function(message, &result.outcome);                                                    \
        return wp_call_ends(&result);                                                          \
    }

#define WP_WAKES(function)                                                                     \
    WP_EXPORT("wakes" WP_VERSION "#on-timer")                                                  \
    void *wp_export_wakes(void) {                                                              \
        wp_call_begins();                                                                      \
        wp_the_result.failed = 0;                                                              \
        function();                                                                            \
        return wp_call_ends(&wp_the_result);                                                   \
    }

#define WP_SCHEMA(json)                                                                        \
    WP_EXPORT("schema" WP_VERSION "#settings")                                                 \
    void *wp_export_schema(void) {                                                             \
        static wp_bytes schema;                                                                \
        schema = wp_text(json);                                                                \
        return &schema;                                                                        \
    }

#endif
