"""What the tests of the exercises share."""


def assert_wrong(verdict, hint):
    assert verdict.correct is False
    assert hint in verdict.message


def written_wrong(written):
    """Flatten ``{exercise: [(wrong function, its hint)]}`` to a case each."""
    return [(name, wrong, hint) for name, wrongs in written.items() for wrong, hint in wrongs]
