"""Which cases train, validate and test: by a split file or by a rule on the patient.

The unit is the patient, so that all follow-ups have one role (docs/method.md section 2).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import get_args

from liverseg.core.data.dataset import Role
from liverseg.errors import SettingsError

ROLES: tuple[Role, ...] = get_args(Role)


def assign(
    patients: Mapping[str, str],
    split: Mapping[str, Sequence[str]] | None,
    validation_fraction: float,
    test_fraction: float,
) -> dict[str, Role]:
    """Return every case's role.

    Args:
        patients: Patient by case name.
        split: Case names by role, as a split file gives them. Cases in no list train, unless
            "training" is a list too: then every case must be in one. None: the rule decides.
        validation_fraction: Share of patients that validate under the rule.
        test_fraction: Share of patients that test under the rule.

    Raises:
        SettingsError: With everything that is wrong: an unknown role or case, a case in two
            lists or in none, a patient with two roles.
    """
    if split is None:
        roles = {
            name: role_by_rule(patient, validation_fraction, test_fraction)
            for name, patient in patients.items()
        }
    else:
        roles = _by_lists(patients, split)
    problems = _patients_with_two_roles(patients, roles)
    if problems:
        raise SettingsError("; ".join(problems))
    return roles


def role_by_rule(patient: str, validation_fraction: float, test_fraction: float) -> Role:
    """Return the role that the patient's pseudonym alone decides, so that new cases move nobody.

    Its SHA-256 is a number in 0..1: below `test_fraction` tests, the next stretch validates.
    """
    position = int.from_bytes(sha256(_composed(patient).encode()).digest()[:8], "big") / 2**64
    if position < test_fraction:
        return "test"
    return "validation" if position < test_fraction + validation_fraction else "training"


def _by_lists(patients: Mapping[str, str], split: Mapping[str, Sequence[str]]) -> dict[str, Role]:
    problems = [
        f"role '{r}' is unknown; known: {', '.join(ROLES)}" for r in split if r not in ROLES
    ]
    # A name typed on one system and a folder made on another may differ in composition only.
    names = {_composed(name): name for name in patients}
    lists: dict[str, list[Role]] = {name: [] for name in patients}
    for role in (r for r in ROLES if r in split):
        for name in split[role]:
            if _composed(name) in names:
                lists[names[_composed(name)]].append(role)
            else:
                problems.append(f"the split names '{name}', which is no case of this folder")
    for name, roles in lists.items():
        if len(roles) > 1:
            problems.append(f"the split has '{name}' more than once: {', '.join(roles)}")
        if not roles and "training" in split:
            problems.append(
                f"the split has '{name}' in no list; add it, or leave out the list 'training' "
                f"and all others train"
            )
    if problems:
        raise SettingsError("; ".join(problems))
    return {name: roles[0] if roles else "training" for name, roles in lists.items()}


def _patients_with_two_roles(patients: Mapping[str, str], roles: Mapping[str, Role]) -> list[str]:
    problems: list[str] = []
    first: dict[str, str] = {}
    for name, patient in patients.items():
        other = first.setdefault(_composed(patient), name)
        if roles[other] != roles[name]:
            problems.append(
                f"patient '{patient}' has two roles: '{other}' is {roles[other]}, "
                f"'{name}' is {roles[name]}"
            )
    return problems


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)
