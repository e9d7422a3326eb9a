/* An earthquake, as a GeoJSON feature says it. */
#ifndef QUAKE_H
#define QUAKE_H

#include "waypost.h"

/* What the reference plugin reads of a feature: slices of its JSON, of length 0 where the feature
 * has none or one of another type. */
typedef struct quake {
    wp_bytes id, place, time, depth, mag;
    bool has_magnitude;
    double magnitude;
} quake;

/* Reads a message's payload. False: `error` is the reason for its dead letter. */
bool quake_read(const wp_message *message, quake *quake, wp_bytes *error);
/* The compact JSON of it. */
wp_bytes quake_compact(const quake *quake);

#endif
