/* groups.h - the tensors of a checkpoint by what their names say but for the numbers in them: a
 * model of 100,000 tensors has a few dozen such groups. */
#ifndef RONDO_FORMAT_GROUPS_H
#define RONDO_FORMAT_GROUPS_H

#include "format/checkpoint.h"

/* Two tensors are of one group when dtype and shape are the same, and so are the names once
 *   a segment (between dots) of one to nine digits stands for any such segment, and
 *   any other run of two or more digits for any other such run.
 * Fills group_of (cp->count numbers) with groups counted from 0, and first with the first tensor of
 * each, as many as *count says. False when memory runs out. */
bool rondo_checkpoint_groups(const rondo_checkpoint *cp, uint32_t *group_of, uint32_t *first,
                             uint32_t *count);

#endif
