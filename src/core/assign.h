/* assign.h - whole tensors into others: conversion, copying, filling. */
#ifndef RONDO_CORE_ASSIGN_H
#define RONDO_CORE_ASSIGN_H

#include "core/pool.h"
#include "kernels/kernels.h"

/* From this many elements on, work is worth spreading over threads. */
enum { RONDO_PARALLEL_FROM = 1 << 17 };

/* target[...] = source[...] converted by the rules of element.h. Same shapes, arithmetic types, no
 * bytes in common; any strides. pool may be NULL. */
void rondo_assign(rondo_pool *pool, const rondo_kernels *k, const rondo_tensor *target,
                  const rondo_tensor *source);

#endif
