/* partial.h - the folder that an output is built in: NAME.partial-PID-RANDOM beside NAME.
 *
 * Its maker holds a flock on it, which the kernel drops when the maker dies, however it dies. So a
 * folder of that name whose lock is free is a leftover, and the next run for NAME sweeps it. */
#ifndef RONDO_FORMAT_PARTIAL_H
#define RONDO_FORMAT_PARTIAL_H

#include "format/place.h"

#define RONDO_NAME_SIZE 256 /* NAME_MAX and a NUL */

/* Creates and locks a partial folder for the place. partial: its name; *folder: a descriptor. */
bool rondo_partial_make(const rondo_place *place, char partial[RONDO_NAME_SIZE], int *folder,
                        rondo_error *e);

/* Removes leftovers of this place: folders of exactly that name pattern that belong to this user,
 * that nobody has locked and that are not, and do not hold, an input. */
void rondo_partial_sweep(const rondo_place *place, const rondo_inputs *inputs);

#endif
