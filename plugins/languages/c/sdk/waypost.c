/* The part of waypost.h that is not a view: memory, settings, and calls of the router.
 *
 * Memory of a call is a piece that a pointer runs through; it is used again by the next call. The
 * router's lists and ours lie in it side by side. */
#include "waypost.h"

#include <stdio.h>
#include <stdlib.h>

/* --- memory --- */

#define PIECE_BYTES ((size_t)64 << 10)
/* What one unusually large batch took is given back. */
#define KEPT_BYTES_MAX ((size_t)4 << 20)

typedef struct piece {
    struct piece *before;
    size_t bytes;
} piece;

static piece *pieces;
static uint8_t *next, *end;
/* Of all pieces together. */
static size_t total;
/* The last call is over: whatever is allocated next belongs to another. */
static bool over;
/* Until init is over nothing is used again. */
static bool started;

static void piece_add(size_t bytes) {
    piece *added = malloc(sizeof *added + bytes);
    if (!added) __builtin_trap();
    *added = (piece){pieces, bytes};
    pieces = added;
    total += bytes;
    next = (uint8_t *)(added + 1);
    end = next + bytes;
}

static void start_over(void) {
    over = false;
    if (pieces && (pieces->before || total > KEPT_BYTES_MAX)) {
        size_t wanted = total;
        while (pieces) {
            piece *before = pieces->before;
            free(pieces);
            pieces = before;
        }
        next = end = NULL;
        total = 0;
        if (wanted <= KEPT_BYTES_MAX) piece_add(wanted);
    } else if (pieces) {
        next = (uint8_t *)(pieces + 1);
    }
}

static void *take(size_t bytes) {
    if (over) start_over();
    uintptr_t at = ((uintptr_t)next + 7) & ~(uintptr_t)7;
    if (!next || at > (uintptr_t)end || bytes > (uintptr_t)end - at) {
        piece_add(bytes + 8 > PIECE_BYTES ? bytes + 8 : PIECE_BYTES);
        at = ((uintptr_t)next + 7) & ~(uintptr_t)7;
    }
    next = (uint8_t *)at + bytes;
    return (void *)at;
}

void *wp_alloc(size_t bytes) { return take(bytes); }

/* What the router allocates with. It never gives back, and nothing here needs more than 8. */
__attribute__((export_name("cabi_realloc"))) void *cabi_realloc(void *old, size_t old_bytes,
                                                                size_t align, size_t bytes) {
    (void)align;
    void *at = take(bytes);
    if (old_bytes) memcpy(at, old, old_bytes < bytes ? old_bytes : bytes);
    return at;
}

wp_result wp_the_result;

void wp_call_begins(void) {
    if (over) start_over();
    wp_the_result.answers.reasons = NULL;
    wp_the_result.answers.reasons_len = 0;
}

void *wp_call_ends(void *result) {
    over = started;
    return result;
}

void *wp_fail(const char *message) {
    wp_the_result.failed = 1;
    wp_the_result.error.kind = 2;
    wp_the_result.error.message = wp_text(message);
    return wp_call_ends(&wp_the_result);
}

wp_bytes wp_join(const wp_bytes *joined, uint32_t count) {
    size_t len = 0;
    for (uint32_t i = 0; i < count; i++) len += joined[i].len;
    uint8_t *at = wp_alloc(len), *to = at;
    for (uint32_t i = 0; i < count; i++) {
        if (joined[i].len) memcpy(to, joined[i].at, joined[i].len);
        to += joined[i].len;
    }
    return (wp_bytes){at, (uint32_t)len};
}

/* A list doubles when its length is a power of two, so that it needs no word for what it holds. */
static void *grown(void *list, uint32_t len, size_t item) {
    if (len & (len - 1)) return list;
    void *at = wp_alloc(item * (len ? 2 * (size_t)len : 1));
    if (len) memcpy(at, list, item * len);
    return at;
}

void wp_list_add(wp_list *list, wp_bytes item) {
    list->at = grown(list->at, list->len, sizeof item);
    list->at[list->len++] = item;
}

void wp_set_header(wp_headers *headers, wp_bytes name, wp_bytes value) {
    headers->at = grown(headers->at, headers->len, sizeof(wp_header));
    headers->at[headers->len++] = (wp_header){name, value};
}

/* --- numbers --- */

static bool is_digit(uint8_t byte) { return byte >= '0' && byte <= '9'; }

bool wp_number(wp_bytes text, double *number) {
    static const double tens[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const uint8_t *at = text.at, *stop = text.at + text.len;
    uint64_t digits = 0;
    int places = 0, count = 0;
    bool negative = at < stop && *at == '-';
    if (negative) at++;
    if (at == stop || !is_digit(*at)) return false;
    if (*at == '0' && at + 1 < stop && is_digit(at[1])) return false;
    for (; at < stop && is_digit(*at); at++, count++)
        if (count < 19) digits = digits * 10 + (*at - '0');
    if (at < stop && *at == '.') {
        if (++at == stop || !is_digit(*at)) return false;
        for (; at < stop && is_digit(*at); at++, count++, places++)
            if (count < 19) digits = digits * 10 + (*at - '0');
    }
    if (at == stop && count < 19 && digits < ((uint64_t)1 << 53) && places <= 22) {
        /* Both are exact, so the quotient is the nearest double. */
        double value = (double)digits / tens[places];
        *number = negative ? -value : value;
        return true;
    }
    if (at < stop && (*at == 'e' || *at == 'E')) {
        if (++at < stop && (*at == '+' || *at == '-')) at++;
        if (at == stop || !is_digit(*at)) return false;
        while (at < stop && is_digit(*at)) at++;
    }
    if (at != stop) return false;
    char *copy = wp_alloc(text.len + 1);
    memcpy(copy, text.at, text.len);
    copy[text.len] = 0;
    *number = strtod(copy, NULL);
    return *number - *number == 0;
}

wp_bytes wp_number_text(double number) {
    char *text = wp_alloc(40);
    double of = number < 0 ? -number : number, scale = 1;
    for (int places = 0; places <= 6 && of < 1e9; places++, scale *= 10) {
        uint64_t digits = (uint64_t)(of * scale + 0.5);
        if ((double)digits / scale != of) continue;
        char *at = text + 40, *stop = at;
        for (int i = 0; i < places; i++, digits /= 10) *--at = (char)('0' + digits % 10);
        if (places) *--at = '.';
        do *--at = (char)('0' + digits % 10);
        while (digits /= 10);
        if (number < 0) *--at = '-';
        return (wp_bytes){(uint8_t *)at, (uint32_t)(stop - at)};
    }
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(text, 40, "%.*g", digits, number);
        if (strtod(text, NULL) == number) break;
    }
    return wp_text(text);
}

/* --- init --- */

bool wp_refuse(wp_init_error *error, wp_bytes setting, wp_bytes message) {
    error->setting = (wp_maybe){setting.len > 0, setting};
    error->message = message;
    return false;
}

bool wp_setting(const wp_config *config, const char *name, wp_bytes *value) {
    for (uint32_t i = config->settings.len; i-- > 0;) {
        if (wp_same(config->settings.at[i].name, wp_text(name))) {
            *value = config->settings.at[i].value;
            return true;
        }
    }
    return false;
}

bool wp_setting_number(const wp_config *config, const char *name, double *number,
                       wp_init_error *error) {
    wp_bytes text;
    if (!wp_setting(config, name, &text) || wp_number(text, number)) return true;
    return wp_refuse(error, wp_text(name),
                     WP_JOIN(wp_text("'"), text, wp_text("' is not a number")));
}

static bool is_word(const char *words, wp_bytes name) {
    for (const char *at = words; *at;) {
        const char *stop = strstr(at, ", ");
        size_t len = stop ? (size_t)(stop - at) : strlen(at);
        if (wp_same((wp_bytes){(const uint8_t *)at, (uint32_t)len}, name)) return true;
        at += len + (stop ? 2 : 0);
    }
    return false;
}

bool wp_settings_known(const wp_config *config, const char *known, wp_init_error *error) {
    for (uint32_t i = 0; i < config->settings.len; i++) {
        wp_bytes name = config->settings.at[i].name;
        if (!is_word(known, name))
            return wp_refuse(error, name,
                             WP_JOIN(wp_text("unknown setting, expected one of "), wp_text(known)));
    }
    return true;
}

bool wp_destination(const wp_config *config, wp_bytes name, uint32_t *index) {
    for (uint32_t i = 0; i < config->destinations.len; i++) {
        if (wp_same(config->destinations.at[i], name)) {
            *index = i;
            return true;
        }
    }
    return false;
}

void wp_ask_header(wp_interest *interest, wp_bytes name) {
    interest->headers = WP_ONLY;
    wp_list_add(&interest->header_names, name);
}

void wp_ask_field(wp_interest *interest, const char *name) {
    wp_list_add(&interest->fields, wp_text(name));
}

void wp_ask_payload_prefix(wp_interest *interest, uint32_t bytes) {
    interest->payload = WP_PREFIX;
    interest->payload_prefix = bytes;
}

void *wp_run_init(bool (*init)(const wp_config *, wp_interest *, wp_init_error *),
                  const wp_config *config) {
    static struct {
        uint8_t failed;
        union {
            wp_interest interest;
            wp_init_error error;
        };
    } result;
    wp_interest interest = {0};
    wp_init_error error = {0};
    result.failed = !init(config, &interest, &error);
    if (result.failed)
        result.error = error;
    else
        result.interest = interest;
    /* What init has taken stays: the calls get pieces of their own. */
    pieces = NULL;
    next = end = NULL;
    total = 0;
    started = true;
    return wp_call_ends(&result);
}

/* --- the router --- */

#define IMPORT(interface, name) \
    __attribute__((import_module(WP_PACKAGE interface WP_VERSION), import_name(name)))

IMPORT("log", "log") void import_log(uint32_t, const uint8_t *, uint32_t);
IMPORT("clock", "now-ms") uint64_t import_now_ms(void);
IMPORT("clock", "monotonic-ns") uint64_t import_monotonic_ns(void);
IMPORT("random", "bytes") void import_random_bytes(uint32_t, void *);
IMPORT("random", "number") uint64_t import_random_number(void);
IMPORT("metrics", "counter") uint32_t import_counter(const uint8_t *, uint32_t);
IMPORT("metrics", "gauge") uint32_t import_gauge(const uint8_t *, uint32_t);
IMPORT("metrics", "histogram") uint32_t import_histogram(const uint8_t *, uint32_t);
IMPORT("metrics", "add") void import_add(uint32_t, uint64_t);
IMPORT("metrics", "set") void import_set(uint32_t, double);
IMPORT("metrics", "observe") void import_observe(uint32_t, double);
IMPORT("payload", "read") void import_read(uint32_t, uint32_t, uint32_t, void *);
IMPORT("state", "get") void import_get(const uint8_t *, uint32_t, void *);
IMPORT("state", "set")
void import_state_set(const uint8_t *, uint32_t, const uint8_t *, uint32_t, uint64_t, void *);
IMPORT("state", "remove") void import_remove(const uint8_t *, uint32_t, void *);
IMPORT("state", "add")
void import_state_add(const uint8_t *, uint32_t, int64_t, uint64_t, void *);
IMPORT("state", "swap")
void import_swap(const uint8_t *, uint32_t, uint32_t, const uint8_t *, uint32_t, uint32_t,
                 const uint8_t *, uint32_t, uint64_t, void *);
IMPORT("state", "scan")
void import_scan(const uint8_t *, uint32_t, uint32_t, const uint8_t *, uint32_t, uint32_t, void *);
IMPORT("publish", "publish") void import_publish(const void *, void *);
IMPORT("timer", "set") void import_timer_set(uint32_t);

void wp_log(wp_level level, wp_bytes line) { import_log(level, line.at, line.len); }
uint64_t wp_now_ms(void) { return import_now_ms(); }
uint64_t wp_monotonic_ns(void) { return import_monotonic_ns(); }
uint64_t wp_random_number(void) { return import_random_number(); }

void wp_random(uint8_t *into, uint32_t len) {
    while (len) {
        wp_bytes got;
        import_random_bytes(len, &got);
        if (!got.len) __builtin_trap();
        memcpy(into, got.at, got.len);
        into += got.len;
        len -= got.len;
    }
}

uint32_t wp_counter(const char *name) { return import_counter((const uint8_t *)name, strlen(name)); }
uint32_t wp_gauge(const char *name) { return import_gauge((const uint8_t *)name, strlen(name)); }
uint32_t wp_histogram(const char *name) {
    return import_histogram((const uint8_t *)name, strlen(name));
}
void wp_counter_add(uint32_t counter, uint64_t delta) { import_add(counter, delta); }
void wp_gauge_set(uint32_t gauge, double value) { import_set(gauge, value); }
void wp_histogram_observe(uint32_t histogram, double value) { import_observe(histogram, value); }

/* What `payload.read` gives at most in one call. */
#define PULL_BYTES_MAX ((uint32_t)1 << 20)

bool wp_whole_payload(const wp_message *message, wp_bytes *payload) {
    *payload = wp_payload(message);
    if (!wp_marked(message, WP_PAYLOAD_CUT)) return true;
    uint32_t len = wp_payload_len(message), here = payload->len;
    uint8_t *whole = wp_alloc(len);
    if (here) memcpy(whole, payload->at, here);
    while (here < len) {
        struct {
            uint8_t failed;
            wp_bytes part;
        } result;
        uint32_t wanted = len - here < PULL_BYTES_MAX ? len - here : PULL_BYTES_MAX;
        import_read(message->position, here, wanted, &result);
        if (result.failed || !result.part.len || result.part.len > len - here) return false;
        memcpy(whole + here, result.part.at, result.part.len);
        here += result.part.len;
    }
    *payload = (wp_bytes){whole, len};
    return true;
}

bool wp_state_get(wp_bytes key, wp_bytes *value) {
    wp_maybe result;
    import_get(key.at, key.len, &result);
    *value = result.value;
    return result.some;
}

typedef struct {
    uint8_t failed;
    uint8_t value;
} short_result;

static wp_state_result refusal(const short_result *result) {
    return result->failed ? (wp_state_result)result->value : WP_STATE_DONE;
}

wp_state_result wp_state_set(wp_bytes key, wp_bytes value, uint64_t ttl_ms) {
    short_result result;
    import_state_set(key.at, key.len, value.at, value.len, ttl_ms, &result);
    return refusal(&result);
}

wp_state_result wp_state_remove(wp_bytes key, bool *was_there) {
    short_result result;
    import_remove(key.at, key.len, &result);
    *was_there = !result.failed && result.value;
    return refusal(&result);
}

wp_state_result wp_state_add(wp_bytes key, int64_t delta, uint64_t ttl_ms, int64_t *sum) {
    struct {
        uint8_t failed;
        union {
            int64_t sum;
            uint8_t refusal;
        };
    } result;
    import_state_add(key.at, key.len, delta, ttl_ms, &result);
    if (result.failed) return (wp_state_result)result.refusal;
    *sum = result.sum;
    return WP_STATE_DONE;
}

wp_state_result wp_state_swap(wp_bytes key, wp_maybe expected, wp_maybe value, uint64_t ttl_ms,
                              bool *swapped) {
    short_result result;
    import_swap(key.at, key.len, expected.some, expected.value.at, expected.value.len, value.some,
                value.value.at, value.value.len, ttl_ms, &result);
    *swapped = !result.failed && result.value;
    return refusal(&result);
}

wp_headers wp_state_scan(wp_bytes prefix, wp_maybe after, uint32_t limit) {
    wp_headers found;
    import_scan(prefix.at, prefix.len, after.some, after.value.at, after.value.len, limit, &found);
    return found;
}

wp_publish_result wp_publish(uint32_t cause, const wp_outgoing *message) {
    struct {
        uint32_t cause;
        wp_outgoing message;
    } params = {cause, *message};
    short_result result;
    import_publish(&params, &result);
    return result.failed ? (wp_publish_result)result.value : WP_PUBLISH_DONE;
}

void wp_timer_set(uint32_t after_ms) { import_timer_set(after_ms); }
