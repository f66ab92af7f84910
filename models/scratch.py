"""First weights that let a model trained from scratch find out early which words belong together."""

import paddle

POSITION_SCALE = 0.2  # of the position embeddings, so that what a word is outweighs where it stands


@paddle.no_grad()
def let_equals_attend(bert):
    """Change fresh weights so that equal words attend to each other before anything is learned.

    In every layer the key weights become a copy of the query weights: the score of two positions, h W W' h', is then
    largest, on average, where they hold the same. Nothing ties them from then on; training moves them apart.

    Args:
        bert: OscarModel (or anything with its `embeddings` and `encoder`), freshly initialised.
    """
    for layer in bert.encoder.layer:
        attention = layer.attention.self
        attention.key.weight.set_value(attention.query.weight)
    bert.embeddings.position_embeddings.weight.scale_(POSITION_SCALE)
