"""What to look for in the figures and tables that several domains share, and how to read them."""

HEADLINE = (
    "A dot is a model's value on test, the line its 95 % interval; the best stands on top. Look whether the network "
    "stands clear of the baselines: what lies in its blue band may differ by chance alone."
)
CHECKS = (
    "The network's lead over each baseline on the same rows, with its interval. A check holds where the whole interval "
    "is better than the deficit that is allowed, and is undecided where only a part of it is."
)
PROMISES = (
    "What the settings asked for, and what the test rows gave, with its 95 % interval. A promise is broken where the "
    "whole interval misses it, and undecided where only a part does."
)
DRIFT = (
    "How far the new records differ from those of the champion's training, column by column. From the dashed line on "
    "(0.2) look at the column before you trust figures on either; below are the three that changed most."
)
DRIFT_TABLE = (
    "The index of each column beside a p-value, which decides nothing: with many records every difference is "
    "significant. The last columns give the share of the bin that changed most, then and now."
)
DATA = (
    "Records on each side of the split. Look whether test is large enough and its classes as frequent as in training."
)
SETTINGS = "Every setting of the run, to train it again, and the seconds that each step took."
ALL_FIGURES = (
    "Every number that the run measured: the network's on test first, then the baselines', then the cost. The same "
    "names stand in the list of metrics in MLflow."
)
PRECISION_RECALL = (
    "Each point is a threshold: how many of the positives are found (to the right) and how many of the alerts are "
    "right (up). The higher curve is better; the ring marks the threshold in use."
)
ROC = (
    "Each point is a threshold: share of positives found (up) against false alarms among the others (to the right). "
    "The nearer to the upper left corner the better; the ring marks the threshold in use."
)
RELIABILITY = (
    "Dots on the diagonal mean that the probabilities can be taken at their word: of cases with 30 % some 30 % come "
    "true. Dots above it are too low a probability, below it too high; bars are 95 % intervals."
)
CONFUSION = (
    "Rows are the true classes, columns the decisions: the diagonal is right. Look for a dark cell off the diagonal, "
    "which is a pair that the network mixes up. Shares are of the true class."
)
CLASSES = (
    "Look for classes that are found less often than the rest. Recall is the share of the class that is found, "
    "precision the share of these decisions that are right, AUC how well its scores rank it above the others."
)
MISTAKES = (
    "The wrong decisions that were surest, worst first. Look at these records: a wrong label, a faulty file and a real "
    "weakness of the network all appear here."
)
SLICES = (
    "The network's value on parts of the test rows, with 95 % intervals; the line is its value on all. Look for an "
    "interval that does not reach the line."
)


def learning_curves(epochs: int) -> str:
    """The caption of the learning curves of so many epochs."""
    if epochs == 1:
        return "The network was trained for one epoch, so that there is one value of each and no course to be seen."
    return (
        "The network is kept as it was at the marked epoch. A validation curve that turns while training goes on "
        "improving shows overfitting; one that still improves at the end asks for more epochs."
    )
