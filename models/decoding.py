"""The rules by which captions are searched and drawn, in NumPy; what the words score comes from `models.generation`.

Shape letters: B images, K captions an image, R = B * K, V words, G longest caption with its [CLS] and [SEP].
"""

from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError


class Specials(NamedTuple):
    """Ids of the words that mean something to the search; `pad_ends`: whether [PAD] ends a caption, as in Oscar v1."""

    cls: int
    sep: int
    pad: int
    mask: int
    pad_ends: bool = False

    def ends(self, words):
        """Of words (an array of ids) whether each ends its caption."""
        return (words == self.sep) | (self.pad_ends & (words == self.pad))


class Decoding(NamedTuple):
    """How captions are made of scores.

    Attributes:
        num_beams: 1 is greedy, or sampling with `do_sample`; more is beam search.
        max_length: G, [CLS] and [SEP] included, at least 2.
        keep: captions an image: the best ones of a beam search (at most num_beams), or samples. Greedy has one, which
            is then repeated.
        length_penalty: beams are ranked by log-probability / length ** length_penalty.
        repetition_penalty: scores of words that a caption already has are divided by it where positive, else
            multiplied; 1 = off.
        do_sample: draw each word, after temperature, top_k (0 = off) and top_p (1 = off); not with beams.
    Source: docs/reference.md, generation.
    """

    num_beams: int = 1
    max_length: int = 20
    keep: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0


def check_decoding(decoding, config):
    """ConfigError where a model of this BertConfig cannot write so."""
    rows, words, beams = config.max_position_embeddings, config.vocab_size, decoding.num_beams
    for wrong, what in (
        (decoding.max_length < 2, f"max_length is {decoding.max_length}; [CLS] and [SEP] alone take 2"),
        (
            decoding.max_length > rows,
            f"max_length is {decoding.max_length}, but the model has {rows} positions (max_position_embeddings)",
        ),
        (beams < 1, f"num_beams is {beams}, expected 1 or more"),
        (2 * beams > words, f"num_beams is {beams}, which is more than half the {words} words of the model"),
        (decoding.keep < 1, f"keep is {decoding.keep}, expected 1 or more"),
        (
            1 < beams < decoding.keep,
            f"keep is {decoding.keep}, but a search with {beams} beams gives no more than these",
        ),
        (beams > 1 and decoding.do_sample, "do_sample is on, which goes with num_beams 1 only"),
        (decoding.repetition_penalty <= 0, f"repetition_penalty is {decoding.repetition_penalty}, expected above 0"),
        (decoding.temperature <= 0, f"temperature is {decoding.temperature}, expected above 0"),
        (decoding.top_k < 0, f"top_k is {decoding.top_k}, expected 0 (off) or more"),
        (not 0 < decoding.top_p <= 1, f"top_p is {decoding.top_p}, expected in (0, 1]"),
    ):
        if wrong:
            raise ConfigError(f"generation: {what}")


# ---- what words score ----


def log_sum_exp(logits):
    """[R, V] float -> [R] float64; DataError: one of them is NaN."""
    highest = logits.max(axis=1, keepdims=True)
    total = np.log(np.exp(logits - highest).sum(axis=1, dtype=np.float64)) + highest[:, 0]
    if np.isnan(total).any():
        raise DataError("the scores of words are NaN; the weights hold NaN, or overflow")
    return total


def log_softmax(logits):
    """[R, V] float -> float64 of the same shape."""
    return logits - log_sum_exp(logits)[:, None]


def penalised(logits, ids, penalty):
    """Scores after the repetition penalty.

    Args:
        logits: [R, V] float32. ids: [R, n] int, the words that the captions have. penalty: 1 = none.
    """
    if penalty == 1:
        return logits
    logits, rows, penalty = logits.copy(), np.arange(len(ids))[:, None], np.float32(penalty)
    found = logits[rows, ids]
    logits[rows, ids] = np.where(found < 0, found * penalty, found / penalty)
    return logits


def likely(logits, top_k, top_p, min_tokens=1):
    """Which words stay in the draw.

    Args:
        logits: [R, V] float. top_k: the best ones, 0 = all; all that equal the last of them stay, too.
        top_p: the best ones whose probabilities come to no more than this, and the one after them; 1 = all.
        min_tokens: top_k is at least this; more than 1 makes top_p leave at least one more than this (upstream).
    Returns:
        bool [R, V].
    Source: docs/reference.md, generation.
    """
    stays = np.ones(logits.shape, bool)
    if top_k > 0:
        most = min(max(top_k, min_tokens), logits.shape[1])
        stays = logits >= -np.partition(-logits, most - 1, axis=1)[:, most - 1 : most]
    if top_p < 1:
        logits = np.where(stays, logits, -np.inf)
        order = np.argsort(-logits, axis=1, kind="stable")
        beyond = np.cumsum(np.exp(log_softmax(np.take_along_axis(logits, order, axis=1))), axis=1) > top_p
        if min_tokens > 1:
            beyond[:, :min_tokens] = False
        beyond = np.pad(beyond[:, :-1], ((0, 0), (1, 0)))  # the first above the threshold stays
        np.put_along_axis(stays, order, np.take_along_axis(stays, order, axis=1) & ~beyond, axis=1)
    return stays


def best_words(logits, count):
    """The words with the highest scores, the lower id first among equals, which Paddle's topk leaves open.

    Args:
        logits: [R, V] float32. count: at most V.
    Returns:
        [R, count] int64, best first.
    """
    rows, words = logits.shape
    # Of a few hundred groups of words, `count` hold a word at least as good as the bound, so nothing below it counts.
    height = max(1, words // max(512, 2 * count))
    width = words // height
    grouped = logits[:, : height * width].reshape(rows, height, width).max(axis=1)
    grouped = np.concatenate([grouped, logits[:, height * width :]], axis=1)
    bound = np.partition(grouped, grouped.shape[1] - count, axis=1)[:, grouped.shape[1] - count]
    row, word = np.nonzero(logits >= bound[:, None])
    order = np.lexsort((word, -logits[row, word], row))
    starts = np.searchsorted(row, np.arange(rows))
    return word[order][starts[:, None] + np.arange(count)]


# ---- one word after the other ----


def seeded_draws(seeds):
    """Draws for `generate`: each caption has a generator of its own, so that none depends on what stands beside it.

    Args:
        seeds: [captions] whatever np.random.default_rng takes, images one after the other.
    """
    generators = [np.random.default_rng(seed) for seed in seeds]

    def draw(probabilities, captions, step):
        below = np.cumsum(probabilities, axis=1)
        points = np.array([generators[caption].random() for caption in captions]) * below[:, -1]
        return (below <= points[:, None]).sum(axis=1)

    return draw


def given_draws(tokens):
    """Draws for `generate`: the words of `tokens` [captions, steps]."""
    return lambda probabilities, captions, step: np.asarray(tokens)[captions, step]


def draw_captions(captions, specials, longest, pick, *, each=1, apart=False):
    """Captions of which every word is chosen for good.

    Args:
        captions: see `search`. longest: see Decoding. each: captions an image.
        pick: function of (logits [B, K, V], places [r] in B * K of the captions that need a word, their ids [r, n],
            their numbers [r], step) -> (words [r] int64, their log-probabilities [r] float64).
        apart: whether the first pass has a row for each of the captions of an image, which are equal till then.
    Returns:
        (ids [B * each, longest] int64; sums of log-probabilities [B * each] float64, and of how many words).
    """
    images = len(captions.images)
    ids = np.full((images * each, longest), specials.pad, np.int64)
    ids[:, 0] = specials.cls
    total, words = np.zeros(images * each), np.zeros(images * each, np.int64)
    numbers = np.arange(images * each).reshape(images, each)  # of the captions in the batch
    going = np.ones(images * each, bool)
    for length in range(1, longest):
        if length == 1 and not apart:
            logits = captions.advance(ids[numbers[:, :1], 0])
            logits = logits if each == 1 else np.repeat(np.asarray(logits), each, axis=1)
        else:
            parents = np.zeros_like(numbers) if length == 2 and not apart else None
            logits = captions.advance(ids[numbers, length - 1], parents)
        places = np.flatnonzero(going[numbers])
        live = numbers.ravel()[places]
        chosen, log_probabilities = pick(logits, places, ids[live, :length], live, length - 1)
        ids[live, length] = chosen
        total[live] += log_probabilities
        words[live] += 1
        going[live] = ~specials.ends(chosen)
        left = going[numbers].any(axis=1)
        if not left.any():
            break
        if captions.worth_leaving(left):
            captions.keep(np.flatnonzero(left))
            numbers = numbers[left]
    ids[going, longest - 1] = specials.sep  # upstream: in place of the last word, whose probability counts
    return ids, total, words


def picker(decoding, draws):
    """What `draw_captions` picks words with: the most probable one, or with `do_sample` a draw."""

    def pick(logits, places, ids, numbers, step):
        logits = np.asarray(logits).reshape(-1, logits.shape[-1])[places]
        logits = penalised(logits, ids, decoding.repetition_penalty)
        logits = allowed(logits, decoding) if decoding.do_sample else logits
        total = log_sum_exp(logits)
        if decoding.do_sample:
            chosen = np.asarray(draws(np.exp(logits - total[:, None]), numbers, step))
        else:
            chosen = best_words(logits, 1)[:, 0]
        return chosen, logits[np.arange(len(chosen)), chosen] - total

    return pick


def allowed(logits, decoding):
    """Scores [R, V] as a draw sees them: divided by the temperature, -inf where top_k and top_p leave a word out."""
    logits = logits / np.float32(decoding.temperature)
    return np.where(likely(logits, decoding.top_k, decoding.top_p), logits, np.float32(-np.inf))


# ---- beams ----


class _Hypotheses:
    """The best finished captions of one image, (score, ids without [SEP])."""

    def __init__(self, most, longest, penalty):
        self.most, self.longest, self.penalty = most, longest, penalty
        self.found = []

    def add(self, ids, log_probability):
        self.found.append((log_probability / len(ids) ** self.penalty, ids))
        self.found.sort(key=lambda entry: -entry[0])  # stable: of equals the earlier one stays
        del self.found[self.most :]

    def done(self, best):
        """Whether no caption that goes on from this log-probability can be better (upstream's estimate)."""
        full = len(self.found) == self.most
        return full and self.found[-1][0] >= best / (self.longest - 1) ** self.penalty


def beam_search(captions, specials, decoding):
    """Beam search with the reference's rules for hypotheses; see `search`.

    A finished caption is ranked by the log-probability with its last word over the length without it. At the longest
    length, whatever word comes next finishes a caption, and is left out.
    """
    images, beams, longest = len(captions.images), decoding.num_beams, decoding.max_length
    found = [_Hypotheses(decoding.keep, longest, decoding.length_penalty) for _ in range(images)]
    ids, scores, parents = np.full((images, 1, 1), specials.cls, np.int64), np.zeros((images, 1)), None
    going = np.ones(images, bool)
    for length in range(1, longest):
        logits = captions.advance(ids[:, :, -1], parents)
        values, parents, words = best_candidates(logits, ids, scores, 2 * beams, decoding.repetition_penalty)
        for row in np.flatnonzero(going):
            hypotheses = found[captions.images[row]]
            going[row] = not hypotheses.done(values[row, 0])
            if going[row]:
                ends = np.full(2 * beams, True) if length + 1 == longest else specials.ends(words[row])
                walked = np.searchsorted(np.cumsum(~ends), beams)  # up to the last beam that lives on
                for place in np.flatnonzero(ends[:walked]):
                    hypotheses.add(ids[row, parents[row, place]], values[row, place])
                if length + 1 < longest:
                    live = np.flatnonzero(~ends)[:beams]
                    for part in (values, parents, words):
                        part[row, :beams] = part[row, live]
        if length + 1 == longest or not going.any():
            break
        scores, parents, words = values[:, :beams], parents[:, :beams], words[:, :beams]
        ids = np.concatenate([np.take_along_axis(ids, parents[:, :, None], axis=1), words[:, :, None]], axis=2)
        if captions.worth_leaving(going):
            left = np.flatnonzero(going)
            captions.keep(left)
            ids, scores, parents, going = ids[left], scores[left], parents[left], going[left]
    return _ranked(found, specials, decoding)


def best_candidates(logits, ids, scores, count, penalty):
    """The best words over all captions of an image.

    Args:
        logits: [B, K, V] float32. ids: [B, K, n], what the captions have. scores: [B, K] float64, their
            log-probabilities. penalty: of repetitions.
    Returns:
        (log-probabilities [B, count] float64, best first; which caption each goes on from and which word it adds, [B,
        count] int64). Of equals the one of the first caption comes first, then the lower id.
    """
    images, captions, words = logits.shape
    logits = penalised(np.asarray(logits).reshape(-1, words), ids.reshape(images * captions, -1), penalty)
    total = log_sum_exp(logits)
    best = best_words(logits, count)
    values = np.take_along_axis(logits, best, axis=1) - total[:, None] + scores.reshape(-1, 1)
    values, best = values.reshape(images, -1), best.reshape(images, -1)
    order = np.argsort(-values, axis=1, kind="stable")[:, :count]
    return np.take_along_axis(values, order, axis=1), order // count, np.take_along_axis(best, order, axis=1)


def _ranked(found, specials, decoding):
    """What `search` returns; every image has `keep` captions, as at the longest length 2 * num_beams end."""
    ids = np.full((len(found), decoding.keep, decoding.max_length), specials.pad, np.int64)
    scores = np.zeros((len(found), decoding.keep), np.float32)
    for image, hypotheses in enumerate(found):
        for place, (score, words) in enumerate(hypotheses.found):
            ids[image, place, : len(words) + 1] = [*words, specials.sep]
            scores[image, place] = score
    return ids, scores


def search(captions, specials, decoding, draws=None):
    """The captions that a Decoding asks for.

    Args:
        captions: `models.generation.Captions`, or whatever has its `images`, `advance`, `keep` and `worth_leaving`.
        specials: Specials. draws: for samples, function of (probabilities [R, V] float64, numbers of the captions
            [R], step) -> [R] ids.
    Returns:
        (ids [B, keep, max_length] int64, from [CLS] to [SEP], then [PAD]; scores [B, keep] float32: the mean
        log-probability of a greedy or sampled caption's words behind [CLS], of a beam the length-normalised one).
    """
    if decoding.num_beams > 1:
        return beam_search(captions, specials, decoding)
    each = decoding.keep if decoding.do_sample else 1
    ids, total, words = draw_captions(captions, specials, decoding.max_length, picker(decoding, draws), each=each)
    scores = (total / words).astype(np.float32).reshape(-1, each)
    copies = decoding.keep // each  # of the one greedy caption
    return ids.reshape(len(scores), each, -1).repeat(copies, axis=1), scores.repeat(copies, axis=1)
