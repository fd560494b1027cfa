"""Why there is no judgement: a class for each exit code."""


class Failure(Exception):
    """What ends the command with `code` and its text on stderr."""

    code = 1


class Usage(Failure):
    """An argument is not what it should be, or a file is not there."""

    code = 2


class SpecRefused(Failure):
    """A spec does not compile, or is not for the model."""

    code = 3


class CannotJudge(Failure):
    """The run is no measurement: too little text, tokens that the model does
    not know, outputs that are not finite."""

    code = 4


class Missing(Failure):
    """A package or a model's weights are not installed."""

    code = 5
