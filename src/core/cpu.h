/* cpu.h - which table of kernels this process uses. */
#ifndef RONDO_CORE_CPU_H
#define RONDO_CORE_CPU_H

#include "kernels/kernels.h"

/* The best table for this processor, or the one that RONDO_ISA names, chosen once per process:
 * "base", "v3" (AVX2) and "v4" (AVX-512) on x86-64, "neon" on aarch64, "base" elsewhere. NULL and
 * *e filled when RONDO_ISA names a table that is unknown or that this processor cannot run. */
const rondo_kernels *rondo_kernels_best(rondo_error *e);

/* The table of that name, NULL when unknown or not supported here. "base" is the baseline of every
 * architecture, whatever its own name. For tests that compare tables. */
const rondo_kernels *rondo_kernels_named(const char *isa);

/* The i-th table that this processor can run, from the baseline upwards; NULL past the last. */
const rondo_kernels *rondo_kernels_at(size_t i);

#endif
