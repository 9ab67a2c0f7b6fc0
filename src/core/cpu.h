/* cpu.h - which table of kernels this process uses. */
#ifndef RONDO_CORE_CPU_H
#define RONDO_CORE_CPU_H

#include "kernels/kernels.h"

/* The best table for this processor, or the one that RONDO_ISA names ("base", "v3", "v4" on
 * x86-64; "base" elsewhere), chosen once per process. NULL and *e filled when RONDO_ISA names a
 * table that is unknown or that this processor cannot run. */
const rondo_kernels *rondo_kernels_best(rondo_error *e);

/* The table of that name, NULL when unknown or not supported here. For tests that compare them. */
const rondo_kernels *rondo_kernels_named(const char *isa);

/* The i-th table that this processor can run, from "base" upwards; NULL past the last. */
const rondo_kernels *rondo_kernels_at(size_t i);

#endif
