/* grid.h - making number grids from the names that schemes use. */
#ifndef RONDO_CORE_GRID_H
#define RONDO_CORE_GRID_H

#include "kernels/kernels.h"

/* Fills *grid. data_type: "int" (1..16 bits; symmetric or not; full_range only where symmetric);
 * "positive" (2..8 bits: not symmetric, zero points from 1 on); "affine" (1..8 bits: code 0 stands
 * for a float); "fp8" (8 bits: OCP E4M3, without infinity); or with 4 bits a codebook: "nf4"
 * (QLoRA, arXiv 2305.14314), "fp4" and "fp4_e2m1_bnb" (the tables of neural-compressor's RTN, whose
 * smallest value is 0.0625), "fp4_e2m1" (the same module's), "e2m1" (the true OCP E2M1 grid, codes
 * are its bit patterns, ties go to the even one). False and *e filled otherwise. */
bool rondo_grid_make(rondo_grid *grid, const char *data_type, int bits, bool symmetric,
                     bool full_range, rondo_error *e);

#endif
