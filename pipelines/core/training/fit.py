"""Training: best weights by validation, early stopping, progress with the time left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from pipelines.core.contract import DivergedError, Settings
from pipelines.core.data.arrays import Part
from pipelines.core.training.batches import Augment, Batches, prediction_batch_size
from pipelines.core.training.device import Device

OnEpoch = Callable[[int, Mapping[str, float]], None]
Show = Callable[[str], None]
"""Takes what is to be shown of the progress."""


@dataclass(frozen=True)
class Fitted:
    """What a training left behind: figures per epoch, the epoch whose weights were kept, and what it cost."""

    epochs: list[dict[str, float]]
    kept_epoch: int
    seconds: float
    examples_per_second: float


class _Follow(keras.callbacks.Callback):
    """Shows progress, hands each epoch's figures on, and stops at the first loss that is not finite."""

    def __init__(self, epochs: int, steps: int, on_epoch: OnEpoch | None, show: Show) -> None:
        super().__init__()
        self.total, self.steps, self.on_epoch, self.show = epochs, steps, on_epoch, show
        self.epochs: list[dict[str, float]] = []
        self.started = time.perf_counter()

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._show(len(self.epochs) * self.steps + batch + 1)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        figures = {name: float(value) for name, value in (logs or {}).items()}
        broken = [name for name, value in figures.items() if not np.isfinite(value)]
        if broken:
            received = f"{broken[0]} is {figures[broken[0]]} after epoch {epoch + 1}"
            raise DivergedError(f"Training diverged: {received}. Lower --learning-rate.")
        self.epochs.append(figures)
        self._show(len(self.epochs) * self.steps)
        if self.on_epoch is not None:
            self.on_epoch(epoch, figures)

    def _show(self, batches: int) -> None:
        """Show the epoch, the losses of the one before, and the time left, in which early stopping is not foreseen."""
        epoch = min(batches // self.steps + 1, self.total)
        last = self.epochs[-1] if self.epochs else {}
        losses = "".join(f"  {name} {last[name]:.4g}" for name in ("loss", "val_loss") if name in last)
        left = (time.perf_counter() - self.started) * (self.total * self.steps / batches - 1)
        self.show(f"epoch {epoch}/{self.total}{losses}  at most {left // 60:.0f}:{left % 60:02.0f} left")


def compiled(model: keras.Model, loss: object, settings: Settings, steps: int) -> keras.Model:
    """Compile with AdamW under a cosine schedule: a tenth of the steps to warm up, then down to 1 % of the peak."""
    total = max(steps * settings.epochs, 1)
    warm = max(total // 10, 1)
    schedule = keras.optimizers.schedules.CosineDecay(
        settings.learning_rate / 20,
        max(total - warm, 1),
        alpha=0.01,
        warmup_target=settings.learning_rate,
        warmup_steps=warm,
    )
    mean = {"use_ema": True, "ema_momentum": settings.averaging} if settings.averaging else {}
    optimizer = keras.optimizers.AdamW(schedule, weight_decay=settings.weight_decay, **mean)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    model.compile(optimizer=optimizer, loss=loss)
    return model


def fit(
    model: keras.Model,
    loss: object,
    train: Part,
    stopping: Part,
    settings: Settings,
    device: Device,
    augment: Augment | None = None,
    on_epoch: OnEpoch | None = None,
    show: Show = lambda text: None,
) -> Fitted:
    """Train `model` in place and leave the weights of the epoch with the lowest loss on `stopping`.

    With a patience of 0 or an empty `stopping` part it trains all epochs and keeps the last weights.

    Raises:
        DivergedError: if a loss is not finite.
    """
    batches = Batches(train, settings.batch_size, settings.seed, augment, device.workers)
    compiled(model, loss, settings, len(batches))
    follow = _Follow(settings.epochs, len(batches), on_epoch, show)
    callbacks: list[keras.callbacks.Callback] = [follow]
    if settings.averaging:  # before early stopping, which then sees and keeps the mean
        callbacks.append(keras.callbacks.SwapEMAWeights(swap_on_epoch=True))
    if len(stopping) and settings.patience:
        callbacks.append(
            keras.callbacks.EarlyStopping("val_loss", patience=settings.patience, restore_best_weights=True)
        )
    started = time.perf_counter()
    model.fit(
        batches,
        validation_data=Batches(stopping, prediction_batch_size(stopping)) if len(stopping) else None,
        epochs=settings.epochs,
        callbacks=callbacks,
        verbose=0,
        shuffle=False,
    )
    seconds = time.perf_counter() - started
    losses = [figures["val_loss"] for figures in follow.epochs] if len(stopping) and settings.patience else []
    kept = int(np.argmin(losses)) + 1 if losses else len(follow.epochs)
    return Fitted(follow.epochs, kept, seconds, len(train) * len(follow.epochs) / seconds)
