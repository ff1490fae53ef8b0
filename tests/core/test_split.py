import pytest

from liverseg.core.data.split import assign, role_by_rule
from liverseg.errors import SettingsError

PATIENTS = {f"case {n}": f"P{n}" for n in range(6)}


def by_rule(patients):
    return assign(patients, None, validation_fraction=0.2, test_fraction=0.25)


def by_lists(split, patients=PATIENTS):
    return assign(patients, split, 0.2, 0.25)


def test_cases_in_no_list_train():
    roles = by_lists({"test": ["case 0", "case 3"], "validation": ["case 1"]})
    assert roles == {
        "case 0": "test",
        "case 1": "validation",
        "case 2": "training",
        "case 3": "test",
        "case 4": "training",
        "case 5": "training",
    }


def test_an_explicit_training_list_must_cover_all_others():
    lists = {"test": ["case 0"], "validation": ["case 1"], "training": ["case 2", "case 3"]}
    with pytest.raises(SettingsError, match=r"'case 4' in no list.*'case 5' in no list"):
        by_lists(lists)
    lists["training"] += ["case 4", "case 5"]
    assert by_lists(lists)["case 5"] == "training"


def test_everything_wrong_with_a_split_is_said_at_once():
    with pytest.raises(SettingsError) as error:
        by_lists({"test": ["case 0", "nobody"], "validation": ["case 0"], "tset": []})
    for part in ("role 'tset' is unknown", "'nobody'", "'case 0' more than once"):
        assert part in str(error.value)


def test_a_patient_on_two_sides_is_refused():
    patients = PATIENTS | {"case 9": "P0"}
    with pytest.raises(SettingsError, match="'P0' has two roles: 'case 0' is test, 'case 9'"):
        by_lists({"test": ["case 0"], "validation": ["case 1"]}, patients)


def test_a_name_typed_with_a_combining_umlaut_is_the_same_case():
    composed, combining = "F\u00e4lle 1", "Fa\u0308lle 1"
    roles = by_lists({"test": [composed], "validation": []}, {combining: "P1"})
    assert roles == {combining: "test"}
    assert role_by_rule(composed, 0.3, 0.3) == role_by_rule(combining, 0.3, 0.3)


def test_the_rule_moves_nobody_when_cases_are_added():
    few = {f"case {n}": f"patient {n}" for n in range(50)}
    many = few | {f"new {n}": f"new patient {n}" for n in range(200)}
    assert by_rule(few).items() <= by_rule(many).items()


def test_the_rule_keeps_follow_ups_of_a_patient_together():
    patients = {f"{n} visit {v}": f"patient {n}" for n in range(60) for v in range(3)}
    roles = by_rule(patients)
    for n in range(60):
        assert len({roles[f"{n} visit {v}"] for v in range(3)}) == 1


def test_the_rule_comes_near_the_fractions():
    roles = list(by_rule({f"case {n}": f"patient {n}" for n in range(4_000)}).values())
    assert roles.count("test") / 4_000 == pytest.approx(0.25, abs=0.02)
    assert roles.count("validation") / 4_000 == pytest.approx(0.20, abs=0.02)


def test_the_rule_is_the_same_on_every_machine_and_in_every_version():
    patients = ["P1", "P2", "P3", "P4", "P5", "P6"]
    expected = ["training", "training", "training", "training", "test", "validation"]
    assert [role_by_rule(p, 0.3, 0.3) for p in patients] == expected
