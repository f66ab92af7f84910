"""How far one gets without looking: the commonest training answer, over all and for each kind of question."""

from collections import Counter


def guessing_scores(train, entries):
    """Scores of two guessers, which know the training answers and (the second one) the kind of a question.

    Args:
        train, entries: questions with `kind` and `answers`, which are (answer, score) pairs.
    Returns:
        {"questions": number of entries, "majority": {"answer", "accuracy"}, "by_kind": {"accuracy", "kinds"}}, where
        kinds maps a kind to {"questions", "answer", "accuracy"}; accuracies in [0, 1], None without questions. The
        accuracy of an answer is the score that its question gives it.
    """
    guess, kinds, points = _commonest(train), {}, 0.0
    for kind in sorted({entry.kind for entry in entries}):
        asked = [entry for entry in entries if entry.kind == kind]
        best = _commonest([entry for entry in train if entry.kind == kind]) or guess
        kinds[kind] = {"questions": len(asked), "answer": best, "accuracy": _share(_points(best, asked), asked)}
        points += _points(best, asked)
    return {
        "questions": len(entries),
        "majority": {"answer": guess, "accuracy": _share(_points(guess, entries), entries)},
        "by_kind": {"accuracy": _share(points, entries), "kinds": kinds},
    }


def _commonest(entries):
    """The answer with the largest sum of scores, the first one in the alphabet among equals; None without entries."""
    sums = Counter()
    for entry in entries:
        sums.update(dict(entry.answers))
    return min(sums, key=lambda answer: (-sums[answer], answer), default=None)


def _points(answer, entries):
    return sum(dict(entry.answers).get(answer, 0.0) for entry in entries)


def _share(points, entries):
    return round(points / len(entries), 4) if entries else None
