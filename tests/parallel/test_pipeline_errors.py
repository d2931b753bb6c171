"""What a pipeline says when something does not fit, and that nobody waits for ever."""

import re
import textwrap
import time

import pytest

from mpviz import ParallelLayout
from mpviz.world import World

# What nobody may have waited.
LONG = 40

PROGRAM = (
    f"LONG = {LONG}"
    + """
import time, torch
from torch import nn
from mpviz import schedule
from mpviz.parallel import pipeline

PLAN = schedule.one_forward_one_backward(pp=2, microbatches=3)
GROUP = groups["pp"]

def given(**others):
    return {"inputs": torch.ones(3, 2, 4), "targets": None, "loss": torch.Tensor.mean,
            "group": GROUP, "timeout": LONG, **others}

def said(plan=PLAN, stages=None, **others):
    stages = {stage: nn.Linear(4, 4) for stage in (rank,)} if stages is None else stages
    try:
        pipeline.execute(plan, stages, **given(**others))
    except Exception as error:
        return type(error).__name__, str(error), getattr(error, "__notes__", [])
    return "nothing"
"""
)


@pytest.fixture(scope="module")
def world():
    with World(ParallelLayout(gpus_per_node=2, pp=2), timeout=60) as world:
        world.cell(PROGRAM)
        yield world


# What is wrong, and what rank 0 and rank 1 are told. These leave the world as it was.
BEFORE_ANYBODY_WAITS = {
    "a plan with a circle": (
        "said(schedule.parse('0F0 0B0 0F1 0B1\\n1F0 1F1 1B0 1B1'))",
        "deadlock: rank 0 waits at 0B0 (position 1) for 1B0 of rank 1, which waits at 1F1 "
        "(position 1) for 0F1 of rank 0",
        None,
    ),
    "more ranks in the plan": (
        "said(schedule.gpipe(pp=4, microbatches=3))",
        "the plan is for pp=4 ranks, and the group has 2",
        None,
    ),
    "a stage that is elsewhere": (
        "said(stages={rank: nn.Linear(4, 4), 1: nn.Linear(4, 4)})",
        "pipeline rank 0 holds stages 0 in this plan, and was given modules for 0, 1",
        "pipeline rank 0 cannot begin: pipeline rank 0 holds stages 0 in this plan, and was given "
        "modules for 0, 1",
    ),
    "no stage": (
        "said(stages={})",
        "pipeline rank 0 holds stages 0 in this plan, and was given modules for none",
        "pipeline rank 1 holds stages 1 in this plan, and was given modules for none",
    ),
    "no inputs": (
        "said(inputs=None)",
        "inputs must be 3, one for each microbatch, got None",
        "pipeline rank 0 cannot begin: inputs must be 3, one for each microbatch, got None",
    ),
    "too few inputs": (
        "said(inputs=torch.ones(2, 2, 4))",
        "inputs must be 3, one for each microbatch, got 2",
        "pipeline rank 0 cannot begin: inputs must be 3, one for each microbatch, got 2",
    ),
    "too many targets": (
        "said(targets=range(4))",
        "pipeline rank 1 cannot begin: targets must be 3, one for each microbatch, got 4",
        "targets must be 3, one for each microbatch, got 4",
    ),
    "no loss": (
        "said(loss=None)",
        "pipeline rank 1 cannot begin: pipeline rank 1 holds the last stage and needs a loss=",
        "pipeline rank 1 holds the last stage and needs a loss=",
    ),
    "another plan on each rank": (
        "said(schedule.gpipe(pp=2, microbatches=3) if rank else PLAN)",
        "pipeline ranks 0 and 1 were given different plans",
        None,
    ),
    "no plan": (
        "said('0F0 0B0' if rank == 0 else PLAN)",
        "plan must be a Plan, as schedule.parse reads one, got '0F0 0B0'",
        "pipeline rank 0 cannot begin: plan must be a Plan, as schedule.parse reads one, got "
        "'0F0 0B0'",
    ),
    "stages in a list": (
        "said(stages=[nn.Linear(4, 4)] if rank == 0 else None)",
        "stages must be a dict of modules by stage, got a list",
        "pipeline rank 0 cannot begin: stages must be a dict of modules by stage, got a list",
    ),
    "a stage that is none": (
        "said(stages={0: 3} if rank == 0 else None)",
        "stages[0] must be a module, got 3",
        "pipeline rank 0 cannot begin: stages[0] must be a module, got 3",
    ),
    "stages of several kinds": (
        "said(stages={0: nn.Linear(4, 4), 'last': nn.Linear(4, 4)} if rank == 0 else None)",
        "pipeline rank 0 holds stages 0 in this plan, and was given modules for 0, last",
        "pipeline rank 0 cannot begin: pipeline rank 0 holds stages 0 in this plan, and was given "
        "modules for 0, last",
    ),
    "inputs one after the other": (
        "said(inputs=(x for x in torch.ones(3, 2, 4)))",
        "inputs must be 3, one for each microbatch, got a generator, which has no length",
        "pipeline rank 0 cannot begin: inputs must be 3, one for each microbatch, got a generator, "
        "which has no length",
    ),
    "inputs in no order": (
        "said(inputs=set(torch.ones(3, 2, 4)))",
        "inputs must be a list or tensor, got a set",
        "pipeline rank 0 cannot begin: inputs must be a list or tensor, got a set",
    ),
    "inputs of no shape": (
        "said(inputs=torch.ones(()))",
        "inputs must be 3, one for each microbatch, got a Tensor, which has no length",
        "pipeline rank 0 cannot begin: inputs must be 3, one for each microbatch, got a Tensor, "
        "which has no length",
    ),
    "inputs of lists": (
        "said(inputs=[torch.ones(2), [1.0, 2.0], [3.0, 4.0]])",
        "inputs[1] must be a tensor, got a list",
        "pipeline rank 0 cannot begin: inputs[1] must be a tensor, got a list",
    ),
    "inputs of two shapes": (
        "said(inputs=[torch.ones(2, 4), torch.ones(2, 4), torch.ones(3, 4)])",
        "inputs must have one shape and dtype, got 2×4 float32 for microbatch 0 and 3×4 float32 "
        "for microbatch 2",
        "pipeline rank 0 cannot begin: inputs must have one shape and dtype, got 2×4 float32 for "
        "microbatch 0 and 3×4 float32 for microbatch 2",
    ),
    "inputs of two dtypes": (
        "said(inputs=[torch.ones(2, 4), torch.ones(2, 4).double(), torch.ones(2, 4)])",
        "inputs must have one shape and dtype, got 2×4 float32 for microbatch 0 and 2×4 float64 "
        "for microbatch 1",
        "pipeline rank 0 cannot begin: inputs must have one shape and dtype, got 2×4 float32 for "
        "microbatch 0 and 2×4 float64 for microbatch 1",
    ),
    "inputs that raise": (
        "said(inputs={'first': 1, 'second': 2, 'third': 3})",
        "what was given raises KeyError: 0",
        "pipeline rank 0 cannot begin: what was given raises KeyError: 0",
    ),
    "a target for all": (
        "said(targets=1.0)",
        "pipeline rank 1 cannot begin: targets must be 3, one for each microbatch, got a float, "
        "which has no length",
        "targets must be 3, one for each microbatch, got a float, which has no length",
    ),
    "a loss that is none": (
        "said(loss='mean')",
        "pipeline rank 1 cannot begin: loss must be a function, got 'mean'",
        "loss must be a function, got 'mean'",
    ),
    "no group": (
        "said(group=None)",
        "this rank is in no such group: expected the ProcessGroup it is a member of, got None",
        None,
    ),
}


@pytest.mark.parametrize("name", BEFORE_ANYBODY_WAITS)
def test_what_does_not_fit_is_said_on_every_rank_before_any_waits(world, name):
    source, *told = BEFORE_ANYBODY_WAITS[name]
    start = time.perf_counter()
    answers = list(world.cell(source))
    assert time.perf_counter() - start < LONG / 2
    assert [kind for kind, _, _ in answers] == ["ValueError"] * 2
    assert [text for _, text, _ in answers] == [told[0], told[1] or told[0]]


@pytest.mark.parametrize(
    "timeout", ["0", "-1", "0.0001", "1e10", "1e400", "-1e400 * 0", "None", "'60'"]
)
def test_a_time_nobody_can_wait_is_refused_on_every_rank(world, timeout):
    answers = list(world.cell(f"said(timeout={timeout} if rank == 0 else 10)"))
    told = f"timeout must be between 0.001 and 1e9 seconds, got {eval(timeout)!r}"
    assert answers == [
        ("ValueError", told, []),
        ("ValueError", f"pipeline rank 0 cannot begin: {told}", []),
    ]


@pytest.mark.parametrize(
    ("letter", "read"), [("😀", "😀"), ("\x00", "\x00"), ("ø", "ø"), ("\ud800", "?")]
)
def test_the_others_are_told_the_beginning_of_what_is_said_at_length(world, letter, read):
    # In letters that need the most room, and in one that is half a letter.
    answers = list(
        world.cell(f"""
class Raises(list):
    def __getitem__(self, k):
        raise ValueError({letter!r} * 5000)
said(inputs=Raises([1, 2, 3]))
""")
    )
    assert [kind for kind, _, _ in answers] == ["ValueError"] * 2
    assert answers[0][1] == letter * 5000
    assert answers[1][1] == "pipeline rank 0 cannot begin: " + read * 256


def test_a_group_of_one_may_take_inputs_of_many_shapes():
    with World(ParallelLayout(gpus_per_node=1), timeout=60) as world:
        world.cell(PROGRAM)
        alone = "said(schedule.parse('0F0 0F1 0B0 0B1'), inputs=[torch.ones(2, 4), torch.ones(4)])"
        assert list(world.cell(alone)) == ["nothing"]


def test_a_rank_that_needs_no_inputs_may_have_none(world):
    source = "said(inputs=torch.ones(3, 2, 4) if rank == 0 else None, loss=None if rank == 0 else "
    assert list(world.cell(source + "torch.Tensor.mean)")) == ["nothing"] * 2


# ---- a stage whose output requires no gradient

CUTTING = """
from functools import partial

class Detaches(nn.Linear):
    def forward(self, x):
        return super().forward(x).detach()

class Without(nn.Linear):
    @torch.no_grad()
    def forward(self, x):
        return super().forward(x)

class Rounds(nn.Module):
    def forward(self, x):
        return x.detach().round()

class Later(nn.Linear):
    calls = 0
    def forward(self, x):
        self.calls += 1
        y = super().forward(x)
        return y if self.calls < 3 else y.detach()

def frozen(kind):
    return kind(4, 4).requires_grad_(False)

def cut(plan, odd, loss=torch.Tensor.mean, timeout=LONG, inputs=None):
    # What execute says, and which parameters of this rank have a gradient.
    torch.manual_seed(0)
    stages = {n: odd.get(n, partial(nn.Linear, 4, 4))() for n in plan.stages_of(pp_rank)}
    inputs = torch.ones(plan.microbatches, 2, 4) if inputs is None else inputs
    answer = said(plan, stages, loss=loss, timeout=timeout, inputs=inputs)
    weights = {n: stage.weight for n, stage in stages.items() if isinstance(stage, nn.Linear)}
    return answer, {n: weight.grad is not None for n, weight in weights.items()}

SHORT = schedule.one_forward_one_backward(pp=2, microbatches=3)
GPIPE = schedule.gpipe(pp=4, microbatches=4)
ONE = schedule.one_forward_one_backward(pp=4, microbatches=6)
LOOP = schedule.interleaved_1f1b(pp=4, microbatches=4)
V = schedule.zero_bubble_v(pp=4, microbatches=6)
H1 = schedule.zero_bubble_h1(pp=4, microbatches=6)
"""


@pytest.fixture(scope="module")
def four():
    with World(ParallelLayout(gpus_per_node=4, pp=4), timeout=60) as world:
        world.cell(PROGRAM + CUTTING)
        yield world


def cuts(stage, *, last=False):
    return (
        f"stage {stage} cuts the graph: {'the loss' if last else 'its output'} requires no "
        f"gradient, so parameters of this stage, or of one before it, would get none. Let it not "
        f"detach and not run under no_grad; what shall not learn is frozen by requires_grad_(False)"
    )


CUTS = {
    "the first stage detaches": ("ONE, {0: partial(Detaches, 4, 4)}", cuts(0)),
    "a stage in the middle detaches": ("ONE, {2: partial(Detaches, 4, 4)}", cuts(2)),
    "the last stage detaches": ("ONE, {3: partial(Detaches, 4, 4)}", cuts(3, last=True)),
    "the loss detaches": ("ONE, {}, lambda y: y.detach().mean()", cuts(3, last=True)),
    "the loss is made anew": ("ONE, {}, lambda y: torch.tensor(1.0)", cuts(3, last=True)),
    "a stage runs under no_grad": ("GPIPE, {1: partial(Without, 4, 4)}", cuts(1)),
    "a backward in two halves": ("H1, {1: partial(Without, 4, 4)}", cuts(1)),
    "two chunks on a rank": ("LOOP, {5: partial(Without, 4, 4)}", cuts(5)),
    "a V": ("V, {2: partial(Detaches, 4, 4)}", cuts(2)),
    "the turn of a V": ("V, {3: partial(Detaches, 4, 4)}", cuts(3)),
    "behind the turn of a V": ("V, {4: partial(Detaches, 4, 4)}", cuts(4)),
    "no parameters, but those before": ("ONE, {2: Rounds}", cuts(2)),
    "a frozen one, but those before learn": ("ONE, {2: lambda: frozen(Without)}", cuts(2)),
    "two of them": ("ONE, {n: partial(Detaches, 4, 4) for n in (1, 2)}", cuts(1)),
}  # fmt: skip


@pytest.mark.parametrize("name", CUTS)
def test_a_stage_that_cuts_the_graph_is_an_error_on_every_rank(four, name):
    call, text = CUTS[name]
    start = time.perf_counter()
    answers = list(four.cell(f"cut({call})"))
    assert time.perf_counter() - start < LONG / 2
    assert [answer for answer, _ in answers] == [("ValueError", text, [])] * 4
    assert not any(any(learnt.values()) for _, learnt in answers)
    # And the pipeline is as good as new.
    answers = list(four.cell("cut(ONE, {})"))
    assert answers == [("nothing", {rank: True}) for rank in range(4)]


UNCUT = {
    "the first stages are frozen": (
        "{0: lambda: frozen(nn.Linear), 1: lambda: frozen(nn.Linear)}", (2, 3),
    ),
    "frozen stages that run under no_grad": (
        "{0: lambda: frozen(Without), 1: lambda: frozen(Detaches)}", (2, 3),
    ),
    "a frozen stage behind others that learn": ("{2: lambda: frozen(nn.Linear)}", (0, 1, 3)),
    "a first stage without parameters": ("{0: Rounds}", (1, 2, 3)),
    "all stages are frozen": (
        "{n: lambda: frozen(Without) for n in range(4)}", (),
    ),
    "functions in place of modules": (
        "{0: lambda: torch.Tensor.detach, 2: lambda: torch.sin}", (1, 3),
    ),
    "an embedding of whole numbers": (
        "{0: lambda: nn.Embedding(7, 4)}, inputs=torch.ones(6, 2, dtype=torch.int64)", (1, 2, 3),
    ),
    "a frozen embedding under no_grad": (
        "{0: lambda: torch.no_grad()(nn.Embedding(7, 4).requires_grad_(False))}, "
        "inputs=torch.ones(6, 2, dtype=torch.int64)",
        (1, 2, 3),
    ),
}  # fmt: skip


@pytest.mark.parametrize("plan", ["ONE", "H1"])
@pytest.mark.parametrize("name", UNCUT)
def test_what_has_nothing_to_learn_may_require_no_gradient(four, name, plan):
    odd, learn = UNCUT[name]
    answers = list(four.cell(f"cut({plan}, {odd})"))
    assert [answer for answer, _ in answers] == ["nothing"] * 4
    assert {n for _, learnt in answers for n, has in learnt.items() if has} == set(learn)


def test_a_group_of_one_hears_of_a_cut_as_well():
    with World(ParallelLayout(gpus_per_node=1), timeout=60) as world:
        world.cell(PROGRAM + CUTTING)
        (answer,) = world.cell("cut(schedule.parse('0F0 0B0'), {0: partial(Detaches, 4, 4)})")
        assert answer == (("ValueError", cuts(0, last=True), []), {0: False})


def test_a_microbatch_that_is_cut_later_is_an_error_at_once():
    with World(ParallelLayout(gpus_per_node=2, pp=2), timeout=30, check=False) as world:
        world.cell(PROGRAM + CUTTING)
        world.cell("cut(SHORT, {})")
        answers = list(world.cell("cut(SHORT, {0: partial(Later, 4, 4)}, timeout=2)"))
    (failed, _), (waited, _) = answers
    text = f"{cuts(0)} (first for microbatch 2)"
    assert failed == ("ValueError", text, ["in 0F2 on pipeline rank 0"])
    assert waited[0] == "TimeoutError"


# ---- while others wait; after each of these a group is of no use, so each has its own world

WHILE_OTHERS_WAIT = {
    "a module that raises": (
        """
        class Breaks(nn.Module):
            calls = 0
            def forward(self, x):
                self.calls += 1
                return x / 0 if self.calls < 3 else x[99]
        answer = said(stages={rank: Breaks() if rank == 0 else nn.Linear(4, 4)}, timeout=2)
        """,
        0,
        ("IndexError", "index 99 is out of bounds"),
        "in 0F2 on pipeline rank 0",
        "pipeline rank 1 waited for the output that stage 0 sends for microbatch k (rank 0), to "
        "run 1Fk, for 2 s in vain",
    ),
    "a backward that raises": (
        """
        def breaks(gradient):
            raise ArithmeticError("no way back")
        layer = nn.Linear(4, 4)
        if rank == 1:
            layer.weight.register_hook(breaks)
        answer = said(stages={rank: layer}, timeout=2)
        """,
        1,
        ("ArithmeticError", "no way back"),
        "in 1B0 on pipeline rank 1",
        "pipeline rank 0 waited for the gradient that stage 1 sends for microbatch k (rank 1), to "
        "run 0Bk, for 2 s in vain",
    ),
    "microbatches of several shapes": (
        """
        class Grows(nn.Module):
            calls = 0
            def forward(self, x):
                self.calls += 1
                return x if self.calls < 2 else torch.cat([x, x[:1]])
        answer = said(stages={rank: Grows() if rank == 0 else nn.Linear(4, 4)}, timeout=2)
        """,
        0,
        ("ValueError", "stage 0 sends 3×4 float32 for microbatch 1, and the first was 2×4 float32; "
         "all microbatches of a run have one shape"),
        None,
        "pipeline rank 1 waited for the output that stage 0 sends for microbatch k (rank 0), to "
        "run 1Fk, for 2 s in vain",
    ),
    "no tensor at all": (
        """
        class Two(nn.Module):
            def forward(self, x):
                return x, x
        answer = said(stages={rank: Two() if rank == 0 else nn.Linear(4, 4)}, timeout=2)
        """,
        0,
        ("ValueError", "a stage returns one tensor, got tuple"),
        "in 0F0 on pipeline rank 0",
        "pipeline rank 1 waited for the output that stage 0 sends for microbatch k (rank 0), to "
        "run 1Fk, for 2 s in vain",
    ),
    "whole numbers": (
        """
        class Rounds(nn.Module):
            def forward(self, x):
                return x.long()
        answer = said(stages={rank: Rounds() if rank == 0 else nn.Linear(4, 4)}, timeout=2)
        """,
        0,
        ("ValueError", "a stage passes on at most 8 dimensions of float32, float64, float16 or "
         "bfloat16, got 2×4 int64"),
        None,
        "pipeline rank 1 waited for the output that stage 0 sends for microbatch k (rank 0), to "
        "run 1Fk, for 2 s in vain",
    ),
    "a loss that is no number": (
        "answer = said(loss=lambda output: output, timeout=2)",
        1,
        ("ValueError", "the loss of a microbatch is one number, got a tensor of shape (2, 4)"),
        "in 1F0 on pipeline rank 1",
        "pipeline rank 0 waited for the gradient that stage 1 sends for microbatch k (rank 1), to "
        "run 0Bk, for 2 s in vain",
    ),
    "a rank that never comes": (
        "answer = said(timeout=2) if rank == 0 else ('KeyError', 'elsewhere', [])",
        1,
        ("KeyError", "elsewhere"),
        None,
        "pipeline rank 0 waited for all ranks to begin, for 2 s in vain",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHILE_OTHERS_WAIT)
def test_a_rank_that_fails_costs_the_others_no_more_than_the_deadline(name):
    source, failing, (kind, text), note, waiting = WHILE_OTHERS_WAIT[name]
    with World(ParallelLayout(gpus_per_node=2, pp=2), timeout=30, check=False) as world:
        world.cell(PROGRAM)
        # A good run first: what a process loads once must not eat the short deadline.
        assert list(world.cell("said()")) == ["nothing"] * 2
        answers = list(world.cell(textwrap.dedent(source) + "\nanswer"))
    failed, waited = answers[failing], answers[1 - failing]
    assert failed[0] == kind and text in failed[1]
    assert failed[2] == ([note] if note else [])
    # What the one had handed over before it failed may have come through or not.
    assert waited[0] == "TimeoutError"
    assert re.sub(r"[012](?= \(rank|,)", "k", waited[1]) == waiting
