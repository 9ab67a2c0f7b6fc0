/* pack.h - how codes lie in words, for those who make both. */
#ifndef RONDO_BIND_PACK_H
#define RONDO_BIND_PACK_H

#include "bind/bind.h"

/* Codes in words: of which type, along which dimension, and the shapes of both. */
typedef struct rondo_words {
  rondo_dtype dtype; /* of the words: i8, i16, i32, i64 */
  int bits, fields, dim;
  int64_t rows, cols;           /* of the codes */
  int64_t word_rows, word_cols; /* of the words */
} rondo_words;

bool rondo_is_word(rondo_dtype dtype);

rondo_words rondo_words_of(rondo_dtype dtype, int bits, int dim, int64_t rows, int64_t cols);

#endif
