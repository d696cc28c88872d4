"""What happened in a training, and how it is shown while it lasts."""

from __future__ import annotations

from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from xbarsim.foundation.entrances import check_fields

__all__ = ["Display", "History"]


@dataclass(frozen=True, kw_only=True)
class History:
    """What happened in a training, epoch by epoch.

    Attributes
    ----------
    loss
        Mean cross entropy of the training images, as they were seen.
    penalty
        Mean of what callbacks added to it.
    training_accuracy
        Share of the training images classified right when they were seen: augmented, and before the step.
    validation_accuracy
        Share of the validation images classified right at the end of the epoch; empty where there are none.
    selected
        The epoch whose weights the model has.
    seconds
        Wall time of the epoch, validation included; no part of a comparison of two histories.
    """

    loss: tuple[float, ...]
    penalty: tuple[float, ...]
    training_accuracy: tuple[float, ...]
    validation_accuracy: tuple[float, ...]
    selected: int
    seconds: tuple[float, ...] = field(compare=False)

    def __post_init__(self) -> None:
        check_fields(self)

    def __str__(self) -> str:
        epoch = self.selected
        text = f"epoch {epoch + 1} of {len(self.loss)}: loss {self.loss[epoch]:.4f}"
        if self.penalty[epoch]:
            text += f" and penalty {self.penalty[epoch]:.4f}"
        text += f", training accuracy {self.training_accuracy[epoch]:.2%}"
        if self.validation_accuracy:
            text += f", validation accuracy {self.validation_accuracy[epoch]:.2%}"
        return f"{text}, {self.seconds[epoch]:.1f} s"


class Display:
    """Progress on standard error: a bar on a terminal, else a line an epoch where asked."""

    def __init__(self, progress: bool | None, epochs: int, batches: int) -> None:
        console = Console(stderr=True)
        self.bar = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn("batches"),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            console=console, disable=not console.is_terminal or progress is False, transient=True,
        )  # fmt: skip
        self.lines = bool(progress) and not console.is_terminal
        self.batches = batches
        self.task = self.bar.add_task("training", total=epochs * batches)

    def advance(self) -> None:
        """After a batch."""
        self.bar.advance(self.task)

    def show(self, history: History, epochs: int) -> None:
        """After an epoch; `history` has its last epoch selected."""
        done = len(history.loss)
        if self.lines:
            line = str(history).replace(f"of {done}:", f"of {epochs}:", 1)
            self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
        accuracy = history.validation_accuracy or history.training_accuracy
        description = f"epoch {done} of {epochs}, {accuracy[-1]:.2%}"
        self.bar.update(self.task, description=description, completed=done * self.batches)
