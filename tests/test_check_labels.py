# SPDX-License-Identifier: LGPL-3.0-or-later
"""What dp-mask check makes of labels: signs, units, references and digits; what dp train says."""

import logging

import helpers
import numpy as np
import pytest
from spoiling import FRAMES, replacing

from deepmd_mask import data
from deepmd_mask.data.training import check_training_data

HARTREE, BOHR = 27.211386, 0.529177
NFRAMES = 40


def check(system):
    return data.check(system, external_field=True).findings


def trajectory(seed=1):
    """Return frames of atoms that move a little on springs, of two compositions."""
    rng = np.random.default_rng(seed)
    nreal = [[5, 4, 2]] * 25 + [[4, 4, 2]] * 15
    frames = helpers.random_frames(seed, nreal=nreal)
    first = np.where(np.arange(NFRAMES) < 25, 0, 25)
    frames.mask[:] = frames.mask[first]
    frames.preference[:] = frames.mask
    rest = frames.coord[first]
    moves = 0.1 * rng.normal(size=rest.shape).clip(-1, 1)
    frames.coord[:] = rest + moves
    frames.force[:] = -20 * moves * frames.mask[..., None]
    energies = frames.counts() @ helpers.ATOM_ENERGIES
    frames.energy[:] = energies + 10 * (moves**2 * frames.mask[..., None]).sum(axis=(1, 2))
    return frames


@pytest.mark.parametrize(
    "energy, force, coord, reason",
    [
        (1, 1, 1, None),
        (1, -1, 1, "probably forces have the sign of gradients; "),
        (1, BOHR / HARTREE, 1, "forces are in hartree/bohr, and energies in eV"),
        (1 / HARTREE, 1, 1, "energies are in hartree, and forces in eV/Å"),
        (1 / HARTREE, BOHR / HARTREE, 1, "forces are per bohr, and positions in Å"),
        (1, 1, 1 / BOHR, "positions are in bohr, and forces per Å"),
        (23.0605, 1, 1, "energies are in kcal/mol"),
        (1, -BOHR / HARTREE, 1, "the sign of gradients, and forces are in hartree/bohr"),
        (1, 1 / 5, 1, "not in units of one system"),
    ],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_energies_and_forces_that_do_not_belong_together(
    tmp_path, energy, force, coord, reason, dtype
):
    frames = trajectory()
    frames = frames._replace(
        energy=energy * frames.energy, force=force * frames.force, coord=coord * frames.coord
    )
    system = helpers.write_system(tmp_path / "a", frames, nsets=2)
    for key in ("coord", "force"):
        replacing(key, lambda array: array.astype(dtype))(system)
    found = [finding for finding in check(system) if finding.code == "energy-force"]
    if reason is None:
        assert found == []
        return
    (finding,) = found
    assert (finding.level, finding.system) == ("warning", str(system))
    assert reason in finding.message


def test_slopes_need_frames_alike(tmp_path):
    """Other atoms, atoms that have moved far, and energies of noise tell nothing."""
    frames = trajectory()
    frames.force[:] *= -1
    order = np.random.default_rng(0).permutation(NFRAMES)
    few = helpers.write_system(tmp_path / "few", frames.take(slice(20, 30)))
    frames.energy[:] += np.random.default_rng(0).normal(size=NFRAMES)
    noise = helpers.write_system(tmp_path / "noise", frames.take(order))
    for system in (few, noise, helpers.write_system(tmp_path / "random", FRAMES)):
        assert "energy-force" not in {finding.code for finding in check(system)}


@pytest.mark.parametrize("unit, warned", [(1, False), (BOHR, True)])
def test_positions_in_bohr(tmp_path, unit, warned):
    water = [[0, 0, 0], [0.76, 0.59, 0], [-0.76, 0.59, 0]]
    coord = np.concatenate([water, np.add(water, [0, 0, 2.9])])[None] / unit
    frames = helpers.Frames(
        np.array([0, 1, 1, 0, 1, 1]),
        np.repeat(coord, 3, axis=0) + np.arange(3)[:, None, None],
        np.ones((3, 6)), np.arange(3.0), np.zeros((3, 6, 3)), np.ones((3, 6)),
    )  # fmt: skip
    system = helpers.write_system(tmp_path / "a", frames, type_map=["O", "h"])
    found = [finding for finding in check(system) if finding.code == "length-unit"]
    assert len(found) == warned
    for finding in found:
        assert (finding.level, finding.system) == ("warning", str(system))
        assert "atom is 1.82 off, in the median" in finding.message


def references(tmp_path, shifts, nframes=40, one_system=False):
    """Write frames of several references, in systems of their own or in one."""
    frames = helpers.random_frames(3, nframes=nframes * len(shifts))
    frames.energy[:] += np.repeat(shifts, nframes)
    if one_system:
        helpers.write_system(tmp_path / "all" / "0", frames)
    else:
        for k in range(len(shifts)):
            part = frames.take(slice(k * nframes, (k + 1) * nframes))
            helpers.write_system(tmp_path / "all" / f"{k}", part)
    return [f for f in check(tmp_path / "all") if f.code.startswith("energy")]


@pytest.mark.parametrize("one_system", [True, False])
@pytest.mark.parametrize("shifts", [[0, 100], [0, 0, 5], [0, 100, 250]])
def test_energies_of_several_references(tmp_path, shifts, one_system):
    found = references(tmp_path, shifts, one_system=one_system)
    assert [finding.code for finding in found] == ["energy-reference"] * (len(set(shifts)) - 1)
    for finding in found:
        assert finding.level == "warning"
        assert "energies of 40 frames in 1 system, of" in finding.message
        shift = float(finding.message.partition(" are ")[2].split()[0])
        between = [abs(a - b) for a in shifts for b in shifts]
        assert min(abs(abs(shift) - distance) for distance in between) < 20


def test_few_frames_of_another_reference_are_outliers(tmp_path):
    frames = helpers.random_frames(3, nframes=200)
    frames.energy[50:55] += 100
    frames.energy[:40] -= 50
    found = check(helpers.write_system(tmp_path / "a", frames))
    assert [(f.code, f.frame) for f in found] == [
        ("energy-reference", 0), *(("energy-outlier", k) for k in range(50, 55))
    ]  # fmt: skip


def test_parts_of_a_molecule_that_are_far_apart(tmp_path):
    """Each atom of a half has neighbours; and a chain may be as long as it likes."""
    frames = helpers.random_frames(nreal=[[5, 4, 2]] * 2)
    frames.coord[1] = [[2.0 * k, 0.1 * k**1.5, 0] for k in range(11)]
    half = [3, 6, 8, 10]
    frames.coord[0, half, 2] += 40
    found = [f for f in check(helpers.write_system(tmp_path / "a", frames)) if f.code == "far"]
    assert [(f.frame, f.atom) for f in found] == [(0, 3)]
    assert ", with 3 others, from all other atoms, more than 10;" in found[0].message
    distance = np.linalg.norm(
        frames.coord[0, half, None] - np.delete(frames.coord[0], half, axis=0), axis=2
    ).min()
    assert found[0].message.startswith(f"{distance:.4g}, with")


@pytest.mark.parametrize("key", ["energy", "force", "virial", "atom_ener", "atom_pref"])
@pytest.mark.parametrize("lacks", [0, 1])
def test_sets_that_differ_in_their_labels(tmp_path, key, lacks):
    """DeePMD-kit would take zeros for labels, or leave labels out."""
    system = helpers.write_system(tmp_path / "a", FRAMES, nsets=3)
    for path in system.glob("set.*"):
        width = {"virial": 9, "atom_ener": len(FRAMES.types)}.get(key)
        if width:
            np.save(path / f"{key}.npy", np.zeros((len(FRAMES.mask) // 3, width)))
    assert check(system) == []
    (system / f"set.00{lacks}/{key}.npy").unlink()
    (finding,) = [f for f in check(system) if f.code == "missing-file"]
    assert (finding.level, finding.file) == ("error", f"set.00{lacks}/{key}.npy")
    assert f"set.00{1 - lacks} has it" in finding.message
    jdata = helpers.make_input([system], sel=[5, 5, 5], loss={"use_default_pf": True})
    if key == "atom_pref":  # each set is asked for it, and the loss has 1 where it is missing
        check_training_data(jdata)
        return
    with pytest.raises(ValueError) as error:
        check_training_data(jdata)
    assert str(error.value) == str(finding)


@pytest.mark.parametrize("energy, warned", [(-130_000, True), (-1000, False)])
def test_energies_with_too_few_digits(tmp_path, energy, warned):
    frames = FRAMES._replace(energy=FRAMES.energy + energy)
    system = helpers.write_system(tmp_path / "a", frames, nsets=2)
    assert check(system) == []
    for path in system.glob("set.*/energy.npy"):
        np.save(path, np.load(path).astype(">f4"))
    found = [(f.level, f.code, f.file) for f in check(system)]
    files = [f"set.00{k}/energy.npy" for k in range(2)] if warned else []
    assert found == [("warning", "dtype", file) for file in files]


# ---- dp train ------------------------------------------------------------------------------------


@pytest.fixture
def logged():
    """Collect what the log says; DeePMD-kit's does not propagate."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    log = logging.getLogger("deepmd.mask")
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)


TERMS = {"start_pref_v": 1.0, "limit_pref_ae": 1.0, "start_pref_e": 1.0}


def remove_type_map(system):
    (system / "type_map.raw").unlink()


def remove_forces(system):
    for path in system.glob("set.*/force.npy"):
        path.unlink()


def let_virtual_atoms_have_forces(system):
    for path in system.glob("set.*/force.npy"):
        np.save(path, np.ones_like(np.load(path)))


@pytest.mark.parametrize(
    "spoil, loss, told",
    [
        (lambda system: None, {}, []),
        (remove_type_map, {}, ["type_map.raw: is missing"]),
        (remove_forces, {}, ["set.000/force.npy: is missing"]),
        (let_virtual_atoms_have_forces, {}, ["set.000/force.npy, frame 0, atom"]),
        (lambda system: None, TERMS, ["virial.npy: is missing", "atom_ener.npy: is missing"]),
    ],
)
def test_training_tells_warnings(tmp_path, logged, spoil, loss, told):
    """Once for each kind and system, and not again when the descriptor asks for the data."""
    systems = [helpers.write_system(tmp_path / name, FRAMES, nsets=2) for name in "ab"]
    for system in systems:
        spoil(system)
    check_training_data(helpers.make_input(systems, sel=[5, 5, 5], loss=loss))
    data.scan_systems(systems, helpers.TYPE_MAP)
    assert len(logged) == len(told) * len(systems)
    for system in systems:
        of_system = [line for line in logged if line.startswith(f"system {system}, ")]
        for line, text in zip(of_system, told, strict=True):
            assert text in line
