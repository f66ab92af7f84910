"""AdamW in three forms, groups of parameters by name, and clipping."""

import math

import paddle

from oscar_paddle.config.errors import ConfigError


class AdamW(paddle.optimizer.Adam):
    """AdamW as the reference systems or today's frameworks have it, on Paddle's fused Adam kernel.

    With t counted from 1 and c = sqrt(1 - b2^t) / (1 - b1^t):

    reference  p -= lr * c * m / (sqrt(v) + eps);  then  p -= lr * decay * p.
    corrected  p -= lr * decay * p;  then  p -= lr * c * m / (sqrt(v) + eps * sqrt(1 - b2^t)).
    bert       p -= lr * (m / (sqrt(v) + eps) + decay * p), as BertAdam: no bias correction.

    The kernel's own bias correction is switched off (its beta powers stay zero), and the corrected rate, computed in
    double precision, is handed to it as the learning rate.

    Args:
        named_parameters: list of (upstream name, parameter); those with `stop_gradient` are left out.
        weight_decay: decay coefficient of the groups that decay.
        epsilon: added to the root of the second moment.
        recipe: Recipe of the task: form and groups.
    Raises:
        ConfigError: a parameter that belongs to no group.
    Source: docs/reference.md, optimizer; pytorch_transformers 1.x AdamW, Loshchilov and Hutter 2019.
    """

    BETA1, BETA2 = 0.9, 0.999

    def __init__(self, named_parameters, *, weight_decay, epsilon, recipe):
        self.named = [(name, p) for name, p in named_parameters if not p.stop_gradient]
        self.form, self.epsilon, self.updates = recipe.adamw, epsilon, 0
        self.decays = []  # (parameter, decay coefficient, factor of the rate)
        for name, parameter in self.named:
            group = group_of(name, recipe.groups)
            parameter.optimize_attr["learning_rate"] = group.lr
            if group.decays and weight_decay > 0:
                self.decays.append((parameter, weight_decay, group.lr))
        parameters = [p for _, p in self.named]
        super().__init__(0.0, self.BETA1, self.BETA2, epsilon, parameters)
        block = paddle.base.framework.default_main_program().global_block()
        self._create_accumulators(block, parameters)  # now rather than at the first step

    @paddle.no_grad()
    def update(self, lr):
        """One step with learning rate `lr`, from the gradients that the parameters hold."""
        self.updates += 1
        root = math.sqrt(1 - self.BETA2**self.updates)
        self.set_lr(lr if self.form == "bert" else lr * (root / (1 - self.BETA1**self.updates)))
        if self.form == "corrected":
            self._epsilon = self.epsilon * root
        if self.form != "reference":
            self._decay(lr)
        self.step()
        if self.form == "reference":
            self._decay(lr)

    def _decay(self, lr):
        for parameter, coefficient, factor in self.decays if lr > 0 else ():
            if parameter.grad is not None:
                parameter.scale_(1.0 - lr * factor * coefficient)

    def moments(self):
        """Both moments of every parameter, as tensors that may be read and assigned: {"exp_avg.<name>": ...}."""
        state = {}
        for name, parameter in self.named:
            state[f"exp_avg.{name}"] = self._get_accumulator(self._moment1_acc_str, parameter)
            state[f"exp_avg_sq.{name}"] = self._get_accumulator(self._moment2_acc_str, parameter)
        return state

    def _add_moments_pows(self, parameter):
        super()._add_moments_pows(parameter)
        for power in (self._beta1_pow_acc_str, self._beta2_pow_acc_str):
            accumulator = self._get_accumulator(power, parameter)
            accumulator.set_value(paddle.zeros_like(accumulator))


@paddle.no_grad()
def global_norm(parameters):
    """L2 norm of all gradients together, as a scalar tensor (0 when there is none)."""
    # The operator that Paddle's own clipping uses: one pass, a quarter of the time of square and sum.
    squares = [paddle._C_ops.squared_l2_norm(p.grad.astype("float32")) for p in parameters if p.grad is not None]
    return paddle.sqrt(paddle.add_n(squares)).reshape([]) if squares else paddle.zeros([])


@paddle.no_grad()
def clip_gradients(parameters, how, bound, norm):
    """Keep the gradients of a list of parameters within a bound, in place.

    Args:
        how: "global": scale all by bound / (norm + 1e-6) when their norm together exceeds it; "tensor": the same for
            each gradient with its own norm; "value": cut every element to [-bound, bound].
        bound: 0 turns clipping off.
        norm: float, the global norm before clipping.
    Source: torch.nn.utils.clip_grad_norm_ and clip_grad_value_, as the reference systems call them.
    """
    if bound <= 0:
        return
    for parameter in [p for p in parameters if p.grad is not None]:
        if how == "value":
            parameter.grad.clip_(-bound, bound)
        elif (own := norm if how == "global" else float(global_norm([parameter]))) > bound:
            parameter.grad.scale_(bound / (own + 1e-6))


def group_of(name, groups):
    """The first group that has a parameter of this name; ConfigError if none has."""
    for group in groups:
        if not group.parts or any(part in name for part in group.parts):
            return group
    raise ConfigError(f"parameter {name}: belongs to no group of the task's recipe")


def build_optimizer(model, options, recipe):
    """The optimizer that the section OPTIMIZATION and a task's Recipe ask for."""
    named = list(model.named_parameters())
    return AdamW(named, weight_decay=options.WEIGHT_DECAY, epsilon=options.EPSILON, recipe=recipe)
