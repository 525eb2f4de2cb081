"""The tuned constants of this room: what each decides, and what was measured.

A container is valid whatever they are; limits of the format stand in `limits`. The encoder's bytes depend on those
that are marked *bytes*; the others decide speed or memory alone.

`tests/benchmarks/tuning.py` sets a constant to half and to double, or one lower and one higher, and measures how the
bytes of ten small tensors change, 1.4 MB at the level default:

    SMALLEST_BLOCK_EXPONENT  +0.013 %  -0.007 %        MAX_GOLOMB_GAPS     +0.001 %   0.000 %
    MAX_INDEX_SHARE          -0.007 %  +0.013 %        DENSITY_CUTS         0.000 %  -0.001 %
    FULL_INDEX_LETTERS       +0.003 %  -0.003 %        COLUMNS_FIRST_GAIN   0.000 %  -0.004 %
    LONGEST_CODE             +0.002 %  -0.001 %        CLOSE_ESTIMATES     +2.776 %   0.000 %
    PAIRED_MARGIN            +0.175 %   0.000 %        SAMPLE_SIZE          0.000 %  -0.017 %
    LONG_STREAM               0.000 %  +0.003 %        PLANES_GAIN          0.000 %  -0.036 %
    CHAIN_GAIN               +0.532 %  +0.053 %        PLANE_STREAM_GAIN    0.000 %  -0.131 %
    ESTIMATED_GAPS           +0.001 %   0.000 %

The other constants of bytes change less than 0.001 % there, because few of these tensors come near them. At the level
max, SURE_NOISE_BITS and PROBE_LEVEL change 0.000 %. Not measured: CHAIN_CLASSES, PROBE_WINDOW and PROBE_MARGIN. Of the
constants of speed and memory, only those were measured whose lines say so.
"""

# Elements that are processed at a time: their results stay in the processor's caches.

LOOKUP_CHUNK = 1 << 16
"""Elements that are looked up, divided into planes or coded at a time; they stay in the second cache."""

SCAN_CHUNK = 1 << 17
"""Elements whose zeros are looked for at a time, and positions that are computed at a time."""

NONZERO_CHUNK = 1 << 17
"""Elements that a report counts at a time."""

HISTOGRAM_CHUNK = 1 << 19
"""Letters that are counted at a time."""

SCATTER_CHUNK = 1 << 18
"""Kept elements that are put in their places at a time."""

UNPACK_CHUNK = 1 << 13
"""Bit fields that are unpacked at a time, a multiple of eight: each bit takes nine bytes on the way."""

FEW_FIELDS = 24
"""Bit fields up to which one Python integer packs them faster than arrays."""

TRANSPOSED_LANES = 128
"""Lanes of decoded letters that are put in order at a time."""

DECODED_LETTERS = 1 << 23
"""Letters that are decoded at a time."""

LONE_STREAM_LETTERS, LONE_STREAM_BLOCKS = 1 << 20, 1 << 9
"""A stream of as many letters and blocks does not share its loop; its table stays in the first cache."""

SHARED_TABLE_ENTRIES = 1 << 21
"""Entries of the decoding tables of streams that share a loop; more streams are decoded in turn."""

MAX_COMPARED = 1 << 16
"""Elements up to which a report looks for shared values in a record without a codebook."""

# Estimates of memory, in bytes: a decoder compares their sum with its limit before it allocates.

STREAM_BYTES, BLOCK_BYTES, SYMBOL_BYTES = 3000, 200, 8
"""What a stream, a block and a symbol take until they are decoded, in addition to the payload."""

WINDOW_BYTES = 6
"""What each byte of a payload takes while it is decoded."""

TABLE_ENTRY_BYTES = 6
"""The most that an entry of a decoding table takes while tables are made."""

TENSOR_BYTES, POSITION_BYTES, CELL_POSITION_BYTES, LINE_BYTES = 4000, 24, 80, 24
"""What a tensor, a kept element, one in a cell, and a row or column that has a class take."""

SPARSE_ROWS_BYTES, ROW_BYTES = 48, 16
"""What a kept element and a row take while sparse rows are made."""

# Streams (*bytes*).

SMALLEST_BLOCK_EXPONENT = 9
"""Blocks have at least 2^9 letters.

Measured: 8M symbols of 32 letters in blocks of 512, with a table of 12 bits, decode at 150 to 185 million symbols a
second on one core.
"""

MAX_INDEX_SHARE = 0.004
"""Part of the payload that the block index takes at most; blocks grow until it fits."""

FULL_INDEX_LETTERS = 1 << 16
"""Letters below which the index takes at most half of that part."""

LONGEST_CODE = 12
"""Bits of a letter's code, unless the alphabet needs more: tables of 4,096 entries stay in the first cache."""

LONGEST_PAIR_CODE = 16
"""Bits of a pair's code; most pairs are rare."""

TABLE_LETTER_BITS = 4
"""About what a letter takes in a table of code lengths; it decides which models are coded."""

MIN_PAIRED, MIN_CHAINED = 1024, 2048
"""Symbols from which on pairs and chains, whose tables are larger, are tried."""

PAIRED_MARGIN = 1.1
"""Pairs are coded if their entropy and table are below this times the least that plain letters take."""

LONG_STREAM = 1 << 14
"""Symbols from which on a stream in pairs comes close to its entropy; estimates take that into account."""

SMALL_ALPHABET = 16
"""Letters up to which an estimate makes the code of their pairs."""

CHAIN_CLASSES = (3, 6, 12)
"""Numbers of classes of the symbol before that a chain may have."""

CHAIN_GAIN = 0.99
"""A chain decodes more slowly, so it has to be smaller than this times what it replaces."""

# Positions (*bytes*).

WIDTHS_TRIED = 3
"""Widths of a gap that look best by estimate, of which the codes are made."""

ESTIMATED_GAPS = 1 << 14
"""Gaps from which on the estimate alone chooses the width."""

MAX_GOLOMB_GAPS = 1 << 12
"""Gaps up to which a Golomb code, which needs no table, is tried."""

FILLER_BITS = 0.25
"""Bits that a filler has to save, because it takes time."""

SHORT_HISTOGRAM = 1 << 16
"""Gaps up to this one, or up to four times their number, are counted instead of sorted; speed alone."""

MIN_CLASSIFIED = 1 << 9
"""Kept elements below which density classes are not tried."""

UNEVENNESS, SLIGHT_UNEVENNESS = 0.03, 0.005
"""Variance of the densities, relative to their squared mean, above which classes are tried: by default, and at the
level `max`. The first may save about a hundredth of the positions, the second a little."""

DENSITY_CUTS = 192
"""Places at which rows or columns, sorted by density, may be cut into classes."""

CLASS_PROPOSALS = 2
"""Proposals of classes that are coded, of those whose estimate is smaller."""

CELL_BITS = 64
"""About what a cell takes in addition to the entropy of its positions."""

MAX_CLASSES_ANYWAY = 1 << 15
"""Kept elements up to which the level `max` tries classes even where their estimate is larger."""

SAMPLED_GAPS = 1 << 15
"""Kept elements by which the encoder decides whether columns come first."""

COLUMNS_FIRST_GAIN = 0.97
"""Columns come first if that makes the gaps of the sample smaller by this factor."""

# Tensors (*bytes*).

NEARLY_DENSE = 0.995
"""Part of kept elements above which positions are not tried, but at the level `max`."""

CLOSE_ESTIMATES, MAX_TRIED_BOTH = 1.15, 1 << 20
"""With and without positions are both coded where estimates differ by less than this factor, up to this size."""

BAND_ELEMENTS, BAND_ROWS = 1 << 17, 64
"""Elements, and rows at least, of the band by which the level `max` chooses the encoding of a larger matrix.

Measured: with the band and the probe below, `max` takes 9 times as long as the default on 100 MB at 30 % sparsity;
without them it took 400 times as long.
"""

# Values (*bytes*).

SAMPLE_SIZE, SAMPLE_PARTS = 1 << 15, 8
"""Elements, or bytes, of a sample, and the runs that it consists of."""

FIRST_SAMPLE, MOSTLY_DISTINCT = 1 << 13, 0.8
"""If this part of a first sample's patterns differ, they are more than about 16,000: too many to gain by sharing."""

HALF_SIZE_SAMPLE = 1 << 17
"""Patterns of 16 bits that are counted before all of them are."""

UNSEEN_PATTERN_BITS = 0.72
"""By how much the entropy of a sample falls short, for each pattern in it (Miller 1955)."""

PLANES_GAIN = 0.98
"""Of half-size floats, codes have to be smaller than planes by this factor, because planes decode faster."""

HEAVY_CODEBOOK = 0.1
"""Values are also tried without a codebook where it takes more than this part of them, or sharing saves less."""

MIN_CODEBOOK_IN_PLANES = 16
"""Shared values from which on a codebook is tried in planes."""

HASHED_CODEBOOK = 1 << 10
"""Shared values up to which they are looked up by hash; speed alone."""

PLANE_STREAM_GAIN = 0.9
"""A stream of a plane has to be smaller by this factor than Zstandard's Huffman coder, or bits.

Measured: free floats decode about twice as fast as with streams wherever those are smaller.
"""

NOISE_BITS, SURE_NOISE_BITS = 7.95, 7.99
"""Bits a byte of a sample above which a plane gets no code: by default, and at the level `max`."""

COUNTED_PAIR_LETTERS = 48
"""Different bytes up to which the pairs of a plane's sample are counted."""

INCOMPRESSIBLE = 0.99
"""If a compressed sample takes more than this part of its size, no Zstandard frame is tried."""

LARGE_FRAME, LARGE_FRAME_MARGIN, FRAME_MARGIN = 1 << 20, 0.97, 1.1
"""A frame is tried if its size, estimated from a sample, is below the size to beat times a margin. From LARGE_FRAME
bytes on the margin demands a gain; below, it allows for an estimate that is too large."""

SMALL_FRAME, SMALL_FRAME_LEVEL = 1 << 16, 3
"""Bytes below which frames are made at this level at most: a higher one mostly takes time to begin."""

PROBE_LEVEL, PROBE_WINDOW, PROBE_MARGIN = 1, 23, 0.99
"""Level and window of the probe that the level `max` makes of all bytes, and the margin of its estimate. The window
finds repetitions that a sample does not show."""
