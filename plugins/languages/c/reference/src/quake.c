/* One pass over the text of a feature, which checks all of it as RFC 8259 has it and remembers
 * where the few values stand that are wanted. Of a name that is there twice the last counts. */
#include "quake.h"

/* Objects and lists within each other. */
#define DEPTH_MAX 128

/* The object or list that a value is in. */
typedef enum { ELSEWHERE, ROOT, PROPERTIES, GEOMETRY, COORDINATES } place;
typedef enum { OBJECT, LIST, TEXT, NUMBER, WORD, NULL_WORD } kind;

typedef struct {
    const uint8_t *at, *stop;
    int depth;
    /* What is wrong, once something is. */
    const char *error;
    quake *quake;
    bool has_properties;
    /* mag is there and neither a number nor null */
    bool bad_magnitude;
} cursor;

static bool wrong(cursor *c, const char *error) {
    c->error = error;
    return false;
}

static void space(cursor *c) {
    while (c->at < c->stop && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r'))
        c->at++;
}

static bool eat(cursor *c, uint8_t byte) {
    if (c->at == c->stop || *c->at != byte) return false;
    c->at++;
    return true;
}

/* Bytes of the UTF-8 character at `at`, or 0. */
static uint32_t character(const uint8_t *at, const uint8_t *stop) {
    uint8_t first = at[0];
    if (first < 0x80) return 1;
    uint32_t more = first >= 0xc2 && first < 0xe0 ? 1 : (first & 0xf0) == 0xe0 ? 2 : first >= 0xf0 && first < 0xf5 ? 3 : 0;
    if (!more || (uint32_t)(stop - at) <= more) return 0;
    for (uint32_t i = 1; i <= more; i++)
        if ((at[i] & 0xc0) != 0x80) return 0;
    bool overlong = (first == 0xe0 && at[1] < 0xa0) || (first == 0xf0 && at[1] < 0x90);
    bool outside = (first == 0xed && at[1] >= 0xa0) || (first == 0xf4 && at[1] >= 0x90);
    return overlong || outside ? 0 : more + 1;
}

static int hex(uint8_t byte) {
    if (byte >= '0' && byte <= '9') return byte - '0';
    byte |= 0x20;
    return byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* The four digits after "\u", or -1. */
static int code(const uint8_t *at, const uint8_t *stop) {
    int value = 0;
    if (stop - at < 4) return -1;
    for (int i = 0; i < 4; i++) {
        int digit = hex(at[i]);
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* `text` is what stands between the quotes. */
static bool string(cursor *c, wp_bytes *text) {
    if (!eat(c, '"')) return wrong(c, "expected a string");
    const uint8_t *start = c->at;
    while (c->at < c->stop) {
        uint8_t byte = *c->at;
        if (byte == '"') {
            *text = (wp_bytes){start, (uint32_t)(c->at - start)};
            c->at++;
            return true;
        }
        if (byte < 0x20) return wrong(c, "control character in a string");
        if (byte != '\\') {
            uint32_t bytes = character(c->at, c->stop);
            if (!bytes) return wrong(c, "not UTF-8");
            c->at += bytes;
            continue;
        }
        if (++c->at == c->stop) break;
        bool is_code = *c->at == 'u';
        if (is_code ? code(c->at + 1, c->stop) < 0 : !memchr("\"\\/bfnrt", *c->at, 8))
            return wrong(c, "invalid escape");
        c->at += is_code ? 5 : 1;
    }
    return wrong(c, "the string does not end");
}

/* Whether a name, which may hold escapes, is this ASCII word. */
static bool is(wp_bytes name, const char *word) {
    const uint8_t *at = name.at, *stop = name.at + name.len;
    for (; *word; word++) {
        int byte = at < stop ? *at++ : -1;
        if (byte == '\\') {
            byte = *at++;
            if (byte == 'u') {
                byte = code(at, stop);
                at += 4;
            } else if (memchr("bfnrt", byte, 5)) {
                return false;
            }
        }
        if (byte != *word) return false;
    }
    return at == stop;
}

static bool value(cursor *c, place where, kind *kind, wp_bytes *raw);

/* Where the value of a member is; values of another level are elsewhere. */
static place inside(place where, wp_bytes name) {
    if (where == ROOT && is(name, "properties")) return PROPERTIES;
    if (where == ROOT && is(name, "geometry")) return GEOMETRY;
    if (where == GEOMETRY && is(name, "coordinates")) return COORDINATES;
    return ELSEWHERE;
}

static wp_bytes if_is(bool fits, wp_bytes raw) { return fits ? raw : (wp_bytes){NULL, 0}; }

static void remember(cursor *c, place where, wp_bytes name, kind kind, wp_bytes raw) {
    quake *quake = c->quake;
    if (where == ROOT && is(name, "id")) quake->id = if_is(kind == TEXT, raw);
    if (where == ROOT && is(name, "properties")) c->has_properties = kind == OBJECT;
    if (where != PROPERTIES) return;
    if (is(name, "place")) quake->place = if_is(kind == TEXT, raw);
    if (is(name, "time")) quake->time = if_is(kind == NUMBER, raw);
    if (is(name, "mag")) {
        quake->mag = if_is(kind == NUMBER, raw);
        c->bad_magnitude = kind != NUMBER && kind != NULL_WORD;
    }
}

/* What an earlier member of the same name had. */
static void forget(cursor *c, place where) {
    quake *quake = c->quake;
    if (where == PROPERTIES) {
        quake->place = quake->time = quake->mag = (wp_bytes){NULL, 0};
        c->bad_magnitude = false;
    }
    if (where == GEOMETRY || where == COORDINATES) quake->depth = (wp_bytes){NULL, 0};
}

static bool object(cursor *c, place where) {
    space(c);
    if (eat(c, '}')) return true;
    do {
        wp_bytes name, raw;
        kind kind;
        space(c);
        if (!string(c, &name)) return false;
        space(c);
        if (!eat(c, ':')) return wrong(c, "expected ':'");
        place within = inside(where, name);
        forget(c, within);
        if (!value(c, within, &kind, &raw)) return false;
        remember(c, where, name, kind, raw);
    } while (eat(c, ','));
    return eat(c, '}') || wrong(c, "expected ',' or '}'");
}

static bool list(cursor *c, place where) {
    space(c);
    if (eat(c, ']')) return true;
    uint32_t position = 0;
    do {
        wp_bytes raw;
        kind kind;
        if (!value(c, ELSEWHERE, &kind, &raw)) return false;
        if (where == COORDINATES && position++ == 2) c->quake->depth = if_is(kind == NUMBER, raw);
    } while (eat(c, ','));
    return eat(c, ']') || wrong(c, "expected ',' or ']'");
}

static bool word(cursor *c, const char *word) {
    size_t len = strlen(word);
    if ((size_t)(c->stop - c->at) < len || memcmp(c->at, word, len) != 0)
        return wrong(c, "expected a value");
    c->at += len;
    return true;
}

static bool number(cursor *c) {
    const uint8_t *start = c->at;
    double checked;
    while (c->at < c->stop && memchr("+-.0123456789eE", *c->at, 15)) c->at++;
    return wp_number((wp_bytes){start, (uint32_t)(c->at - start)}, &checked) ||
           wrong(c, "not a number");
}

/* A value and the space around it. An object or a list is of the place `where`, if it is the kind
 * that belongs there. */
static bool value(cursor *c, place where, kind *kind, wp_bytes *raw) {
    space(c);
    const uint8_t *start = c->at;
    bool good;
    wp_bytes text;
    switch (c->at < c->stop ? *c->at : 0) {
    case '{':
    case '[':
        if (++c->depth > DEPTH_MAX) return wrong(c, "nested too deep");
        *kind = *c->at++ == '{' ? OBJECT : LIST;
        good = *kind == OBJECT ? object(c, where) : list(c, where);
        c->depth--;
        break;
    case '"':
        *kind = TEXT;
        good = string(c, &text);
        break;
    case 't':
    case 'f':
        *kind = WORD;
        good = word(c, *c->at == 't' ? "true" : "false");
        break;
    case 'n':
        *kind = NULL_WORD;
        good = word(c, "null");
        break;
    default:
        *kind = NUMBER;
        good = number(c);
    }
    *raw = (wp_bytes){start, (uint32_t)(c->at - start)};
    space(c);
    return good;
}

bool quake_read(const wp_message *message, quake *quake, wp_bytes *error) {
    wp_bytes payload, raw;
    kind kind;
    *quake = (struct quake){0};
    if (!wp_whole_payload(message, &payload)) {
        *error = wp_text("the payload cannot be read");
        return false;
    }
    cursor c = {.at = payload.at, .stop = payload.at + payload.len, .quake = quake};
    bool good = value(&c, ROOT, &kind, &raw);
    if (good && c.at != c.stop) good = wrong(&c, "something follows the value");
    if (!good) {
        double place = (double)(c.at - payload.at);
        *error = WP_JOIN(wp_text("not JSON: "), wp_text(c.error), wp_text(" at byte "),
                         wp_number_text(place));
        return false;
    }
    if (kind != OBJECT || !c.has_properties) {
        *error = wp_text("not an earthquake: no properties");
        return false;
    }
    quake->has_magnitude = quake->mag.len > 0;
    if (c.bad_magnitude || (quake->has_magnitude && !wp_number(quake->mag, &quake->magnitude))) {
        *error = wp_text("not an earthquake: mag is not a number");
        return false;
    }
    return true;
}

wp_bytes quake_compact(const quake *quake) {
    wp_bytes null = wp_text("null");
    wp_bytes id = quake->id.len ? quake->id : null, mag = quake->mag.len ? quake->mag : null;
    wp_bytes place = quake->place.len ? quake->place : null;
    wp_bytes time = quake->time.len ? quake->time : null;
    wp_bytes depth = quake->depth.len ? quake->depth : null;
    return WP_JOIN(wp_text("{\"id\":"), id, wp_text(",\"mag\":"), mag, wp_text(",\"place\":"), place,
                   wp_text(",\"time\":"), time, wp_text(",\"depth\":"), depth, wp_text("}"));
}
