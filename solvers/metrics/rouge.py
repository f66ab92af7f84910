"""ROUGE-L of captions, as the official toolkit reckons it (docs/reference.md, caption scores)."""

_BETA = 1.2  # recall counts this much more than precision


def rouge_l(candidate, references):
    """F-measure of the longest common subsequence.

    Upstream: the best precision and the best recall are taken, though they may be of different references; and text is
    parted at each single blank, so a caption without words has one, the empty one.

    Args:
        candidate: list of str, the words. references: list of such lists, not empty.
    Returns:
        float in [0, 1].
    """
    candidate = candidate or [""]
    places = {}
    for place, word in enumerate(candidate):
        places[word] = places.get(word, 0) | 1 << place
    precision = recall = 0.0
    for reference in references:
        reference = reference or [""]
        common = _common(places, len(candidate), reference)
        precision, recall = max(precision, common / len(candidate)), max(recall, common / len(reference))
    if not precision or not recall:
        return 0.0
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(places, length, words):
    """Length of the longest common subsequence of `words` and a text of `length` words, given as word -> bits.

    A zero bit stands where one more word is common. Source: Hyyrö, "Bit-parallel LCS-length computation revisited".
    """
    everything = (1 << length) - 1
    state = everything
    for word in words:
        hits = state & places.get(word, 0)
        state = ((state + hits) | (state - hits)) & everything
    return length - state.bit_count()
