"""Who sees whom in a row: one table, from which attention masks and score biases are made.

Shape letters: B rows, N positions of the longest row.
"""

import numpy as np

from oscar_paddle.config.errors import ConfigError

HIDDEN_BIAS = -10000.0  # Upstream: added to the scores of invisible keys, rather than -inf

KINDS = ("caption", "tags", "regions", "padding")
NO, YES, EARLIER = 0, 1, 2  # EARLIER: the position itself and those before it

# mask type -> [query kind, key kind] for caption, tags and regions. "CLR" to "LR" are INPUT.ATT_MASK_TYPE: a kind sees
# itself, and the named kinds see each other. "S2S" is sequence to sequence: a caption that is written word by word.
_SEES = {
    "CLR": ((YES, YES, YES), (YES, YES, YES), (YES, YES, YES)),
    "CL": ((YES, YES, NO), (YES, YES, NO), (NO, NO, YES)),
    "CR": ((YES, NO, YES), (NO, YES, NO), (YES, NO, YES)),
    "LR": ((YES, NO, NO), (NO, YES, YES), (NO, YES, YES)),
    "S2S": ((EARLIER, YES, YES), (NO, YES, YES), (NO, YES, YES)),
}
SEES = {name: np.pad(np.array(table, np.int8), (0, 1)) for name, table in _SEES.items()}  # padding: NO both ways
MASK_TYPES = ("CLR", "CL", "CR", "LR")  # of INPUT.ATT_MASK_TYPE


def kinds_of_rows(caption_length, text_length, length, longest):
    """What stands at each position of rows that hold caption, tags and regions one after the other.

    Args:
        caption_length, text_length, length: [B] int, where caption, text and row end.
        longest: N.
    Returns:
        [B, N] int8, indices into KINDS.
    """
    column = np.arange(longest)
    ends = np.stack([caption_length, text_length, length], axis=1)[:, :, None]  # [B, 3, 1]
    return (column >= ends).sum(axis=1, dtype=np.int8)


def visible(mask_type, kinds):
    """Which keys the queries of a row see.

    Args:
        mask_type: one of MASK_TYPES, or "S2S".
        kinds: [B, N] int, indices into KINDS, whatever order the positions are in.
    Returns:
        bool [B, N] where all queries see the same keys (CLR), else bool [B, N, N] (query, key).
    Raises:
        ConfigError: unknown mask type.
    Source: docs/reference.md, masks.
    """
    if mask_type not in SEES:
        raise ConfigError(f"INPUT.ATT_MASK_TYPE is {mask_type!r}; expected one of {', '.join(MASK_TYPES)}")
    if mask_type == "CLR":
        return kinds != KINDS.index("padding")
    sees = SEES[mask_type][kinds[:, :, None], kinds[:, None, :]]
    if (SEES[mask_type] != EARLIER).all():
        return sees == YES
    return (sees == YES) | ((sees == EARLIER) & np.tri(kinds.shape[1], dtype=bool))


def score_bias(seen):
    """bool [B, N] or [B, N, N] -> [B, 1, 1, N] or [B, 1, N, N] float32: 0 where visible, else HIDDEN_BIAS."""
    bias = np.where(seen, np.float32(0), np.float32(HIDDEN_BIAS))
    return bias[:, None, None, :] if bias.ndim == 2 else bias[:, None]
