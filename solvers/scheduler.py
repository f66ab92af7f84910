"""Learning rate by step."""


def constant(step, warmup_steps, total_steps):
    """Multiplier of the base rate: up from 0 over the warm-up, then 1."""
    return step / warmup_steps if step < warmup_steps else 1.0


def linear(step, warmup_steps, total_steps):
    """Multiplier of the base rate: up from 0 over the warm-up, then down to 0 at `total_steps`."""
    if step < warmup_steps:
        return constant(step, warmup_steps, total_steps)
    return max(0.0, (total_steps - step) / max(1, total_steps - warmup_steps))


SCHEDULES = {"linear": linear, "constant": constant}


def learning_rate(update, options, recipe, total_steps):
    """Rate used by an update.

    Upstream: fine-tuning advances the scheduler before the optimizer, so update k (counted from 1) uses the
    multiplier of step k; the first is already one notch down and the last one of a linear schedule is exactly 0.

    Args:
        update: which update, from 1 to total_steps.
        options: the config section OPTIMIZATION (LR, LR_SCHEDULER, WARMUP_STEPS).
        recipe: Recipe of the task: a schedule of its own, and whether it advances before the update.
        total_steps: updates of the whole run.
    Source: docs/reference.md, optimizer.
    """
    schedule = recipe.schedule or SCHEDULES[options.LR_SCHEDULER]
    step = update if recipe.schedule_first else update - 1
    return options.LR * schedule(step, options.WARMUP_STEPS, total_steps)
