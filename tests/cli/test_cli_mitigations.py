"""Repair on the command line: its names, its errors, and what is printed of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.running import one_line, run
from xbarsim import mitigation
from xbarsim.cli.mitigations import methods, mitigation_costs, mitigation_settings, repair
from xbarsim.mitigation import (
    ClosestValue,
    Diagnosis,
    KnownTile,
    Mitigation,
    Overhead,
    PermuteRows,
    RecalibrateOutputs,
    TileFit,
)

FILE = """
[[mitigations]]
type = "PermuteRows"
spare = 4

[[mitigations]]
type = "RecalibrateOutputs"

[diagnosis]
coverage = 0.95
false_alarm = 0.001
"""


class Silent(Mitigation):
    """A method of a user's own."""

    needs = "nothing"

    def overhead(self, tile: KnownTile, fit: TileFit) -> Overhead:
        """A bit of luck."""
        return Overhead()


def test_every_method_of_the_project_has_a_name() -> None:
    concrete = {
        kind
        for kind in vars(mitigation).values()
        if isinstance(kind, type) and issubclass(kind, Mitigation) and kind is not Mitigation
    }
    assert set(methods().values()) == concrete
    assert {"permute-rows", "closest-value", "recalibrate-outputs", "joint-copies"} < set(methods())


def test_info_says_what_each_method_must_know_and_what_it_costs() -> None:
    result = run("info", "mitigations")
    assert result.exit_code == 0
    for name, kind in methods().items():
        (line, *_) = [line for line in result.output.splitlines() if line.startswith(f"{name} ")]
        assert f" {kind.needs} " in line
        detail = run("info", kind.__name__).output
        assert detail.startswith(f"{name}: ")
        assert mitigation_costs(kind) in detail
        for setting in mitigation_settings(kind):
            assert f"{setting}=" in result.output
            assert f"{setting}=" in detail
        assert ":class:" not in detail
        assert "`" not in detail


def test_costs_are_told_from_what_a_method_overrides() -> None:
    assert mitigation_costs(ClosestValue) == "the cells written anew"
    assert "table with the word line of each row" in mitigation_costs(PermuteRows)
    assert mitigation_costs(PermuteRows).startswith("the spare lines of every array; ")
    assert "gain and an offset" in mitigation_costs(RecalibrateOutputs)
    assert "redundancy that is not counted" in mitigation_costs(mitigation.ProtectLayers)
    assert "as often as there are copies" in mitigation_costs(mitigation.JointCopies)
    assert mitigation_costs(Silent) == "a bit of luck"


def test_methods_are_read_in_their_order(tmp_path: Path) -> None:
    (tmp_path / "repair.toml").write_text(FILE)
    file = str(tmp_path / "repair.toml")
    assert repair((), None, None) == ((), None)
    assert repair(["permute-rows", "ClosestValue"], 0.9, 0.01) == (
        (PermuteRows(), ClosestValue()),
        Diagnosis(coverage=0.9, false_alarm=0.01),
    )
    found, diagnosis = repair(["closest-value", file, f"{__name__}:Silent"], None, None)
    assert found[:3] == (ClosestValue(), PermuteRows(spare=4), RecalibrateOutputs())
    assert type(found[3]) is Silent
    assert diagnosis == Diagnosis(coverage=0.95, false_alarm=0.001)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--mitigate", "permute-rows"], "coverage must be given for permute-rows, which needs a map of the faults"),
        (["--mitigate", "nope"], "mitigate must be one of 'assign-arrays', 'average-copies'"),
        (["--mitigate", "math:sqrt"], "mitigate must name a class derived from Mitigation, got 'math:sqrt'"),
        (["--mitigate", "no_such_module:X"], "No module named 'no_such_module'"),
        (["--mitigate", "protect-layers"], "mitigate must be a TOML file for protect-layers, which needs layers"),
        (["--coverage", "1"], "coverage must be given only with a method that needs a map"),
        (["--mitigate", "recalibrate-outputs", "--false-alarm", "0.1"], "coverage must be given with false_alarm"),
        (["--mitigate", "closest-value", "--coverage", "2"], "coverage must be a finite number >= 0.0 and <= 1.0"),
        (["--mitigate", "missing.toml"], "cannot read mitigations from missing.toml"),
    ],
)
def test_what_cannot_be_done_is_one_line(options: list[str], message: str) -> None:
    one_line(run("evaluate", "digits", *options), 2, message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("colour = 1", "has no key 'colour'; its keys are mitigations, diagnosis"),
        ("", "must have [[mitigations]] tables, got None"),
        ("mitigations = []", "must have [[mitigations]] tables, got []"),
        ("[[mitigations]]\ntype = 'PermuteRows'\nspare = -1", "spare must be an integer >= 0, got -1"),
        ("[[mitigations]]\ntype = 'Nope'", "repair.toml:2: mitigations[0].type must be one of"),
        ("[[mitigations]]\ntype = 'no_such:Nope'", "so import no_such before it is read (--parts on the command line)"),
        ("diagnosis = 1\n[[mitigations]]\ntype = 'ClosestValue'", "diagnosis must be a table, got 1"),
        (FILE.replace("0.95", "1.5"), "coverage must be a finite number >= 0.0 and <= 1.0, got 1.5"),
    ],
)
def test_a_file_that_says_something_else_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "repair.toml").write_text(text)
    result = run("evaluate", "digits", "--mitigate", str(tmp_path / "repair.toml"))
    one_line(result, 2, message)
    assert str(tmp_path / "repair.toml") in result.output


def test_a_file_says_all_of_the_diagnosis(tmp_path: Path) -> None:
    (tmp_path / "repair.toml").write_text(FILE)
    file = str(tmp_path / "repair.toml")
    one_line(
        run("evaluate", "digits", "--mitigate", file, "--coverage", "0.9"),
        2,
        "coverage must not be given beside a file",
    )
    one_line(run("evaluate", "digits", "--mitigate", file, "--mitigate", file), 2, "mitigate must give one diagnosis")


def test_evaluate_repairs_each_die_and_says_what_was_done() -> None:
    arguments = (
        "evaluate",
        "digits",
        "--dies",
        "2",
        "--images",
        "20",
        "--faults",
        "chen2015_sa0_hrs",
        "--rate",
        "0.02",
    )
    plain = run(*arguments)
    result = run(*arguments, "--mitigate", "permute-rows", "--mitigate", "recalibrate-outputs", "--coverage", "0.99")
    assert result.exit_code == 0, result.output
    for word in (
        "PermuteRows",
        "RecalibrateOutputs",
        "NSR before",
        "bits stored",
        "noise to signal of the worst layer",
    ):
        assert word in result.output
        assert word not in plain.output
    assert result.output.count("in all: ") == 2
    assert "nothing to repair" not in result.output
    assert "once for a die, in no number here: to test its" in result.output


def test_repair_of_whole_dies_says_that_there_is_nothing_to_repair() -> None:
    result = run(
        "evaluate", "digits", "--dies", "1", "--images", "20", "--mitigate", "closest-value", "--coverage", "1"
    )
    assert result.exit_code == 0, result.output
    assert "note: nothing is broken on these dies, so there is nothing to repair (--faults NAME" in result.output
