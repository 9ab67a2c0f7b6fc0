/* pack.c - codes of b bits into words of 8, 16, 32 or 64 bits; core/layout.c reads them back.
 * Included by table.c. Field e of a word stands at bit b*e; bits that no code fills are zero. */

/* Fields that fill their words, one after the other: then words of every size are the same bytes,
 * each of 8 / bits fields. */
TEMPLATE void pack_bytes(const uint8_t *restrict codes, size_t bytes, int bits,
                         uint8_t *restrict out) {
  if (bits == 8) {
    memcpy(out, codes, bytes);
  } else if (bits == 4) {
    for (size_t i = 0; i < bytes; i++) {
      uint16_t v = load_u16(codes, i) & 0x0f0f;
      out[i] = (uint8_t)(v | v >> 4);
    }
  } else {
    for (size_t i = 0; i < bytes; i++) {
      uint32_t v;
      memcpy(&v, codes + 4 * i, sizeof v);
      v &= 0x03030303u;
      v |= v >> 6;
      out[i] = (uint8_t)(v | v >> 12);
    }
  }
}

/* Little-endian words of a size that the compiler knows. */
TEMPLATE void store_words(const uint32_t *words, size_t n, int word_bytes, unsigned char *out) {
  for (size_t w = 0; w < n; w++)
    memcpy(out + w * (size_t)word_bytes, words + w, (size_t)word_bytes);
}

/* Fields of a word of at most 32 bits that lie a row apart: a strip of words at a time. */
TEMPLATE void pack_rows(const uint8_t *restrict codes, size_t field_step, size_t words, int fields,
                        int bits, int word_bytes, unsigned char *out) {
  enum { STRIP_WORDS = 64 };
  const uint32_t mask = (1u << bits) - 1;
  for (size_t first = 0; first < words; first += STRIP_WORDS) {
    size_t m = words - first < STRIP_WORDS ? words - first : STRIP_WORDS;
    uint32_t word[STRIP_WORDS] = {0};
    for (int e = 0; e < fields; e++) {
      const uint8_t *code = codes + first + (size_t)e * field_step;
      for (size_t w = 0; w < m; w++) word[w] |= (code[w] & mask) << (bits * e);
    }
    if (word_bytes == 4)
      store_words(word, m, 4, out);
    else if (word_bytes == 2)
      store_words(word, m, 2, out);
    else
      store_words(word, m, 1, out);
    out += m * (size_t)word_bytes;
  }
}

/* Word w takes its field e from codes[w * word_step + e * field_step]. All words have `fields`
 * fields, the last one has `last_fields`. */
KERNEL void pack_words(const uint8_t *codes, size_t word_step, size_t field_step, size_t words,
                       int fields, int last_fields, int bits, int word_bytes, void *target) {
  const uint64_t mask = ((uint64_t)1 << bits) - 1;
  unsigned char *out = target;
  size_t w = 0;
  if (word_step == 1 && field_step != 1 && last_fields == fields && word_bytes <= 4) {
    pack_rows(codes, field_step, words, fields, bits, word_bytes, out);
    return;
  }
  bool even = bits == 8 || bits == 4 || bits == 2;
  bool full = fields * bits == 8 * word_bytes; /* not the last row of words along the rows */
  if (field_step == 1 && word_step == (size_t)fields && even && full && words > 1) {
    w = words - 1;
    pack_bytes(codes, w * (size_t)word_bytes, bits, out);
    out += w * (size_t)word_bytes;
  }
  for (; w < words; w++) {
    const uint8_t *code = codes + w * word_step;
    int count = w + 1 == words ? last_fields : fields;
    uint64_t word = 0;
    for (int e = 0; e < count; e++) word |= (code[(size_t)e * field_step] & mask) << (bits * e);
    for (int b = 0; b < word_bytes; b++) out[b] = (unsigned char)(word >> (8 * b));
    out += word_bytes;
  }
}

/* Bytes of two codes of four bits into others: low[first code] | high[second code]. */
KERNEL void recode_pairs(const uint8_t *from, size_t n, const uint8_t *low, const uint8_t *high,
                         uint8_t *out) {
  for (size_t at = 0; at < n; at += BLOCK) {
    uint8_t first[BLOCK] = {0}, second[BLOCK];
    size_t count = n - at < BLOCK ? n - at : BLOCK;
    memcpy(first, from + at, count);
    for (int i = 0; i < BLOCK; i++) {
      second[i] = first[i] >> 4;
      first[i] &= 15;
    }
    v_map_bytes(first, low);
    v_map_bytes(second, high);
    for (int i = 0; i < BLOCK; i++) first[i] |= second[i];
    memcpy(out + at, first, count);
  }
}
