"""AdamW as the 2019 library has it, weight-decay groups by name, and clipping by global norm."""

import math

import paddle

from oscar_paddle.config.errors import ConfigError

NO_DECAY = ("bias", "LayerNorm.weight")  # substrings of parameter names that are exempt from weight decay


def decays(name):
    """Whether weight decay applies to a parameter of this name (common_model.md section 12)."""
    return not any(part in name for part in NO_DECAY)


class ReferenceAdamW(paddle.optimizer.Adam):
    """AdamW in the form of the reference implementation, on Paddle's fused Adam kernel.

    With t counted from 1:  p -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + eps);  then  p -= lr * decay * p.
    Epsilon joins the *uncorrected* second moment and decay acts on the updated weight; today's frameworks do neither.
    The kernel's own bias correction is switched off (its beta powers stay zero), and the corrected rate, computed in
    double precision, is handed to it as the learning rate.

    Args:
        named_parameters: list of (upstream name, parameter); those with `stop_gradient` are left out.
        weight_decay: decay coefficient for the names that `decays` accepts.
        epsilon: added to sqrt(v).
    Source: pytorch_transformers 1.x AdamW; common_model.md section 12.
    """

    BETA1, BETA2 = 0.9, 0.999

    def __init__(self, named_parameters, weight_decay, epsilon):
        self.named = [(name, p) for name, p in named_parameters if not p.stop_gradient]
        self.weight_decay = weight_decay
        self.updates = 0
        super().__init__(
            learning_rate=0.0,
            beta1=self.BETA1,
            beta2=self.BETA2,
            epsilon=epsilon,
            parameters=[p for _, p in self.named],
        )
        block = paddle.base.framework.default_main_program().global_block()
        self._create_accumulators(block, [p for _, p in self.named])  # now rather than at the first step

    @paddle.no_grad()
    def update(self, lr):
        """One step with learning rate `lr`, from the gradients that the parameters hold."""
        self.updates += 1
        correction = math.sqrt(1 - self.BETA2**self.updates) / (1 - self.BETA1**self.updates)
        self.set_lr(lr * correction)
        self.step()
        if self.weight_decay > 0 and lr > 0:
            for name, parameter in self.named:
                if decays(name) and parameter.grad is not None:
                    parameter.scale_(1.0 - lr * self.weight_decay)

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
def clip_gradients(parameters, max_norm, norm):
    """Scale all gradients by max_norm / (norm + 1e-6) when their norm exceeds max_norm.

    Args:
        parameters: list of parameters.
        max_norm: bound on the global L2 norm; 0 turns clipping off.
        norm: float, the global norm before clipping.
    Source: torch.nn.utils.clip_grad_norm_, as the reference calls it.
    """
    if max_norm > 0 and norm > max_norm:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.scale_(max_norm / (norm + 1e-6))


def build_optimizer(model, options):
    """The optimizer that the section OPTIMIZATION asks for.

    Raises:
        ConfigError: OPTIMIZATION.OPTIMIZER is not "adamw".
    """
    if options.OPTIMIZER != "adamw":
        raise ConfigError(f"OPTIMIZATION.OPTIMIZER: {options.OPTIMIZER!r} is unknown, expected 'adamw'")
    return ReferenceAdamW(list(model.named_parameters()), options.WEIGHT_DECAY, options.EPSILON)
