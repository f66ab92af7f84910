"""What is exported for Paddle Inference: models with one job, and the shapes of what they take."""

import paddle
import paddle.nn as nn
from paddle.static import InputSpec

from oscar_paddle.models.bert import EqualRows
from oscar_paddle.models.generation import NewPositions, Seen, new_states
from oscar_paddle.models.losses import match_margin

CAPTIONS, CAPTION_STATES = "captions", "caption_states"  # what `CaptionProgram` may return


def program_for(model, output):
    """The program that returns `output` ("margins", "pooled", CAPTIONS or CAPTION_STATES), in evaluation mode."""
    program = (CaptionProgram if output in (CAPTIONS, CAPTION_STATES) else ScoringProgram)(model, output)
    program.eval()
    return program


class ScoringProgram(nn.Layer):
    """One batch to its margins, or to its pooled vectors.

    Args:
        model: with `bert` and `classifier`, see `models.oscar`.
        output: "margins" or "pooled".
    """

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output

    def specs(self):
        free = [None]
        return [
            *(InputSpec(free, "int64", name) for name in ("input_ids", "token_type_ids", "position_ids")),
            InputSpec([None, None], "int32", "order"),
            InputSpec([None, 1, None, None], "float32", "bias"),
            InputSpec([None, self.model.config.hidden_size], "float32", "regions"),
        ]

    @paddle.jit.not_to_static  # no value decides what runs: tracing gives the same bytes, 15 times as fast
    def forward(self, input_ids, token_type_ids, position_ids, order, bias, regions):
        """Fields of a RowBatch and [Pu, H] regions -> [B] or [B, H] float32."""
        bert = self.model.bert
        pooled = bert.encode(input_ids, token_type_ids, position_ids, regions, order, EqualRows(bias))["pooled"]
        return match_margin(self.model.classifier(pooled)) if self.output == "margins" else pooled


class CaptionProgram(nn.Layer):
    """A pass over new positions of captions or of what they are written after, see `models.generation`.

    One program does both, that the weights are in memory once.

    Args:
        model: with `bert` and `word_logits`.
        output: CAPTIONS, the scores of words, or CAPTION_STATES, the states that a head makes them of.
    """

    def __init__(self, model, output):
        super().__init__()
        self.model, self.output = model, output
        head = model.cls.predictions
        if output == CAPTIONS:  # tied words lie across: oneDNN multiplies them at half the speed
            self.decoder = nn.Linear(model.config.hidden_size, model.config.vocab_size)
            self.decoder.weight.set_value(head.words_by_width())
            self.decoder.bias.set_value(head.bias)

    def specs(self):
        config, free = self.model.config, [None]
        heads, width = config.num_attention_heads, config.hidden_size // config.num_attention_heads

        def states(name):
            spec = [None, heads, None, width]
            return [InputSpec(spec, "float32", f"{name}_{number}") for number in range(config.num_hidden_layers)]

        return [
            *(InputSpec(free, "int64", name) for name in ("input_ids", "token_type_ids", "position_ids")),
            InputSpec([None, config.hidden_size], "float32", "regions"),
            InputSpec([None, None], "int32", "order"),
            InputSpec([None, 1, None, None], "float32", "bias"),
            InputSpec(free, "int32", "read"),
            states("prefix_keys"),
            states("prefix_values"),
            InputSpec([None, 1, 1, None], "float32", "prefix_bias"),
            states("words_keys"),
            states("words_values"),
            InputSpec([None, 1, None, None], "float32", "words_bias"),
        ]

    @paddle.jit.not_to_static
    def forward(
        self,
        input_ids,
        token_type_ids,
        position_ids,
        regions,
        order,
        bias,
        read,
        prefix_keys,
        prefix_values,
        prefix_bias,
        words_keys,
        words_values,
        words_bias,
    ):
        """Fields of NewPositions, and of two Seen -> the output [B, M, V or H], keys, values."""
        new = NewPositions(input_ids, token_type_ids, position_ids, regions, order, bias, read)
        seen = [Seen(prefix_keys, prefix_values, prefix_bias), Seen(words_keys, words_values, words_bias)]
        states, keys, values = new_states(self.model.bert, new, seen)
        if self.output == CAPTIONS:
            states = self.decoder(self.model.cls.predictions.transform(states))
        return [states, *keys, *values]
