# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs of programs: what belongs together is packed, and the rest is refused or left out."""

import gzip

import ase.io
import numpy as np
import outputs
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.formats import ioformats
from click.testing import CliRunner
from outputs import (
    FORCES,
    GRADIENT,
    HARTREE,
    INPUT,
    MOVED,
    OPTIMISATION,
    ORCA_NEXT,
    STANDARD,
    SYMBOLS,
    TURN,
    TURNED,
    WATER,
    extxyz,
    gaussian,
    molpro,
    orca,
    orca_step,
    psi4,
    qchem,
    table,
)

from deepmd_mask.cli import main
from deepmd_mask.data import pack
from deepmd_mask.data.balance import NetForceWarning
from deepmd_mask.data.frame import Frame
from deepmd_mask.data.readers import naming
from deepmd_mask.data.readers.outputs import Output

pytestmark = pytest.mark.filterwarnings("error::deepmd_mask.data.balance.NetForceWarning")


def load(system):
    """Return real atoms of each frame: positions, forces and energy; O comes after H."""
    arrays = [np.load(system / f"set.000/{k}.npy") for k in ("aparam", "coord", "force", "energy")]
    mask, coord, force, energy = arrays
    return [
        (r.reshape(-1, 3)[m == 1], f.reshape(-1, 3)[m == 1], e)
        for m, r, f, e in zip(mask, coord, force, energy, strict=True)
    ]


def packed(tmp_path, text, form="{}", name="job.log", **options):
    """Pack an output, read as the form says; return its frames and what was left out."""
    path = tmp_path / name
    path.write_text(text)
    result = pack(form.format(path), tmp_path / "system", overwrite=True, **options)
    return load(tmp_path / "system"), result.left_out


def refusal(tmp_path, text, form="{}", name="job.log", **options):
    with pytest.raises(ValueError) as error:
        packed(tmp_path, text, form, name, **options)
    assert str(tmp_path / name.partition("@")[0]) in str(error.value)
    assert not (tmp_path / "system").exists()
    return str(error.value)


def require_water(frame, energy=-76.3, positions=WATER, atol=1e-5):
    """Require the right numbers: 5.142 eV/Å on both H along their bonds."""
    r, f, E = frame
    order = [1, 2, 0]
    np.testing.assert_allclose(r, np.asarray(positions)[order], atol=atol)
    np.testing.assert_allclose(f, FORCES[order], atol=1e-5)
    assert energy * HARTREE == pytest.approx(E, rel=1e-7)
    for k in range(2):
        bond = (r[k] - r[2]) / np.linalg.norm(r[k] - r[2])
        assert f[k] @ bond == pytest.approx(-5.142, abs=1e-3) or positions is not WATER


# ---- Axes of Gaussian ----------------------------------------------------------------------------

READERS = ["{}", "gaussian-out:{}", "gaussian/log:{}", "dpdata:gaussian/md:{}"]


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize(
    "parts", [[INPUT], [INPUT, STANDARD], [table("Z-Matrix", WATER), STANDARD]]
)
def test_forces_along_the_bonds(tmp_path, form, parts):
    (frame,), _ = packed(tmp_path, gaussian(*parts), form)
    require_water(frame)


@pytest.mark.parametrize("form", READERS)
def test_axes_of_the_standard_orientation_are_refused(tmp_path, form):
    assert "Geom=PrintInputOrient" in refusal(tmp_path, gaussian(STANDARD), form)


@pytest.mark.parametrize("form", READERS)
def test_axes_of_another_geometry_are_refused(tmp_path, form):
    """The input orientation of the first geometry does not serve for the second."""
    first = gaussian(INPUT, STANDARD)
    second = gaussian(table("Standard", TURNED * 1.1), energy=-76.2)
    assert "Geom=PrintInputOrient" in refusal(tmp_path, first + second, form)
    stale = gaussian(INPUT, STANDARD).partition(" Center     Atomic                   Forces")[0]
    assert "Geom=PrintInputOrient" in refusal(tmp_path, stale + second, form, skip_incomplete=True)


@pytest.mark.parametrize(
    "route",
    ["#P B3LYP Force NoSymm", "# b3lyp force nosymmetry", "#B3LYP Symmetry=None Force",
     "# force symm=(none)", "#P B3LYP/6-31G(d) Force Integral=UltraFine NoSy\n mm"],
)  # fmt: skip
def test_job_that_kept_its_axes(tmp_path, route):
    (frame,), _ = packed(tmp_path, gaussian(table("Standard", WATER), route=route))
    require_water(frame)


@pytest.mark.parametrize("route", ["#P B3LYP Force", "# force symmetry=loose guess=none"])
def test_job_that_did_not_keep_its_axes(tmp_path, route):
    assert "NoSymm" in refusal(tmp_path, gaussian(table("Standard", WATER), route=route))


def test_several_geometries_of_gaussian(tmp_path):
    moved = gaussian(table("Input", MOVED), table("Standard", MOVED @ TURN.T), energy=-76.2)
    frames, _ = packed(tmp_path, gaussian(INPUT, STANDARD) + moved, external_field=True)
    require_water(frames[0])
    require_water(frames[1], -76.2, MOVED)


def test_energy_of_another_method_than_the_forces(tmp_path):
    """As of excited states, ONIOM and, where the reader takes the SCF's, correlated methods."""
    notes = {
        " Total Energy, E(TD-HF/TD-DFT) =  -75.9": "an excited state",
        " ONIOM: extrapolated energy =  -75.9": "ONIOM",
    }
    for line, what in notes.items():
        for form in READERS:
            assert what in refusal(tmp_path, gaussian(INPUT, notes=line), form)
    mp2 = gaussian(INPUT).replace(
        outputs.gaussian_forces(),
        " E2 =    -0.2000000000D+00 EUMP2 =    -0.76500000000000D+02\n" + outputs.gaussian_forces(),
    )
    (frame,), _ = packed(tmp_path, mp2)
    require_water(frame, -76.5)
    (tmp_path / "system").rename(tmp_path / "other")
    message = refusal(tmp_path, mp2, "gaussian/log:{}")
    assert "a correlated method" in message
    assert "gaussian-out:PATH" in message
    water = psi4(notes="    DF-MP2 Total Energy (a.u.)   :   -76.5\n")
    assert "correlated" in refusal(tmp_path, water, "psi4/out:{}")


# ---- Net force and torque ------------------------------------------------------------------------


def water(positions=WATER, forces=FORCES, energy=-10.0):
    atoms = Atoms(SYMBOLS, positions)
    atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=np.asarray(forces))
    return atoms


def test_net_torque_of_turned_positions(tmp_path):
    """The forces still cancel, but not their torque; the second of three frames."""
    frames = [water(), water(TURNED), water()]
    with pytest.warns(NetForceWarning) as warned:
        result = pack(frames, tmp_path / "system")
    (warning,) = warned
    assert "frame 1 of the given ones: net torque (" in str(warning.message)
    torque = np.cross(TURNED, FORCES).sum(axis=0)
    assert f"of magnitude {np.linalg.norm(torque):.3g}" in str(warning.message)
    assert result.with_net == 1
    assert pack(frames, tmp_path / "b", external_field=True).with_net == 0


def run(*arguments, exit_code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def test_net_force_by_command(tmp_path):
    """Pack and check name frame and value, and the option that turns it off."""
    pulled = FORCES + np.array([[0, 0, 0], [0, 0.7, 0], [0, 0, 0]])
    ase.io.write(tmp_path / "a.traj", [water(), water(forces=pulled)] + 12 * [water(TURNED)])
    output = run("pack", tmp_path / "a.traj", "-o", tmp_path / "system").stderr
    place = f"warning: source {tmp_path / 'a.traj'}, frame 1: net force (0, 0.7, 0) eV/Å, of"
    assert place in output
    assert "say so with --external-field" in output
    assert "warning: 3 more frames with a net force or torque" in output
    checked = run("check", tmp_path / "system").stdout
    place = f"warning [net-force] system {tmp_path / 'system'}, set.000/force.npy, frame 1: net"
    assert place in checked
    assert "warning [net-torque]" in checked
    assert "say so with --external-field" in checked
    assert "2 more of this kind" in checked
    options = ["--external-field", "--overwrite"]
    assert not run("pack", tmp_path / "a.traj", "-o", tmp_path / "system", *options).stderr
    checked = run("check", "--external-field", tmp_path / "system").stdout
    assert "net-" not in checked


@pytest.mark.parametrize("natoms", [1, 2, 3, 30, 300])
def test_noise_is_no_net_force(tmp_path, natoms):
    """Random errors of 0.005 eV/Å, as of DFT grids, on forces that are as large or 200 times."""
    rng = np.random.default_rng(natoms)
    frames = []
    for size in (0.0, 1.0):
        for _ in range(20):
            r = rng.normal(size=(natoms, 3)) * natoms ** (1 / 3)
            pair = rng.integers(natoms, size=(3 * natoms, 2))
            forces = rng.normal(scale=0.005, size=(natoms, 3))
            for i, j in pair:  # central forces, whose torques cancel, too
                force = size * rng.normal() * (r[i] - r[j])
                forces[i] += force
                forces[j] -= force
            atoms = Atoms(["H"] * natoms, r)
            atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=forces)
            frames.append(atoms)
    assert pack(frames, tmp_path / "system").with_net == 0


# ---- Units that a file states --------------------------------------------------------------------


AU = "hartree/bohr"
CONVERTED = {
    "energy-unit=hartree force-unit=hartree/bohr": {},
    "energy_unit=Hartree forces_unit=Hartree/Bohr": {},
    'energy_units="Ha" force_units="Ha/Bohr" pos_unit=Angstrom charge_unit=au': {},
    "unit_of_energy=hartree unit_of_forces=hartree/bohr unit_cell=primitive": {},
    "energyUnit=au forceUnit=au stress-unit=GPa": {},
    "energy-unit=hartree": {"force_unit": AU},
    "force-unit=au": {"energy_unit": "Ha"},
    "": {"energy_unit": "hartree", "force_unit": AU},
    "energy-unit=hartree force-unit=au": {"energy_unit": "Ha", "force_unit": AU},
}


@pytest.mark.parametrize("header", CONVERTED)
def test_units_of_extended_xyz(tmp_path, header):
    (frame,), _ = packed(tmp_path, extxyz(header), name="a.xyz", **CONVERTED[header])
    require_water(frame)


def test_unit_of_positions(tmp_path):
    header = "energy-unit=hartree force-unit=hartree/bohr position-unit=bohr"
    text = extxyz(header, WATER / outputs.BOHR)
    (frame,), _ = packed(tmp_path, text, name="a.xyz")
    require_water(frame)


def test_unit_of_a_label_with_another_name(tmp_path):
    text = extxyz("dft=-76.3 dft_unit=hartree force-unit=au").replace("energy=-76.3 ", "")
    (frame,), _ = packed(tmp_path, text, name="a.xyz", energy_key="dft")
    require_water(frame)


def test_usual_units_change_nothing(tmp_path):
    for k, header in enumerate(("", "energy-unit=eV force-unit=eV/Å pos-unit=Ang units=metal")):
        packed(tmp_path, extxyz(header, forces=FORCES), name="a.xyz")
        (tmp_path / "system").rename(tmp_path / str(k))
    for one, other in zip(load(tmp_path / "0"), load(tmp_path / "1"), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


REFUSED_UNITS = {
    "energy-unit=furlong force-unit=au": ({}, "energy-unit=furlong"),
    "energy-unit=hartree force-unit=stone/foot": ({}, "force-unit=stone/foot"),
    "energy-unit=hartree": ({}, "add force-unit=… there, or give `force_unit`"),
    "position-unit=bohr": ({}, "add energy-unit=… there"),
    "energy-unit=eV force-unit=eV/Å pos-unit=mile": ({}, "pos-unit=mile"),
    "energy-unit=eV force-unit=au": ({"energy_unit": "Ha"}, "but `energy_unit` is Ha"),
    "energy-unit=Ha force-unit=au": ({"force_unit": "eV/Å"}, "but `force_unit` is eV/Å"),
    "energy-unit=Ha energy_unit=eV force-unit=au": ({}, "it says both energy-unit=Ha and"),
    "units=real": ({}, "units=real, and it is not clear of which"),
    "label_unit=kcal/mol": ({}, "label_unit=kcal/mol, and it is not clear"),
}


@pytest.mark.parametrize("header", REFUSED_UNITS)
def test_units_that_are_refused(tmp_path, header):
    options, message = REFUSED_UNITS[header]
    text = extxyz("", forces=FORCES) + extxyz(header)
    found = refusal(tmp_path, text, name="a.xyz", external_field=True, **options)
    assert message in found
    assert "frame 1: it says" in found


def test_units_in_dpdata_s_reader_of_extended_xyz(tmp_path):
    text = extxyz("energy-unit=hartree force-unit=hartree/bohr")
    (frame,), _ = packed(tmp_path, text, "quip/gap/xyz:{}", "a.xyz")
    require_water(frame)
    (tmp_path / "system").rename(tmp_path / "other")
    found = refusal(tmp_path, text, "dpdata:extxyz:{}", "a.xyz", energy_unit="hartree")
    assert "`energy_unit` must not be hartree" in found
    text = extxyz("energy_units=hartree forces_units=hartree/bohr")
    assert "dpdata does not convert" in refusal(tmp_path, text, "mace/xyz:{}", "a.xyz")
    text = extxyz("energy-unit=hartree")
    assert "add force-unit=… there" in refusal(tmp_path, text, "mace/xyz:{}", "a.xyz")
    text = extxyz("", forces=FORCES) + "H\n"
    assert "frame 1: its header" in refusal(tmp_path, text, "mace/xyz:{}", "a.xyz")


@pytest.mark.parametrize(
    ("text", "form"),
    [(orca(orca_step()), "{}"), (gaussian(INPUT), "gaussian/log:{}"), (psi4(), "cclib:{}")],
)
def test_units_are_not_converted_twice(tmp_path, text, form):
    """The readers of outputs give eV already."""
    for option in ({"energy_unit": "hartree"}, {"force_unit": "hartree/bohr"}):
        assert "whatever the file has, so `" in refusal(tmp_path, text, form, **option)
    assert len(packed(tmp_path, text, form, energy_unit="eV", force_unit="eV/Å")[0]) == 1


# ---- Incomplete frames ---------------------------------------------------------------------------


def test_last_frame_of_an_orca_optimisation(tmp_path):
    message = refusal(tmp_path, OPTIMISATION)
    assert "frame 2: there is no forces under the name forces" in message
    assert "`skip_incomplete`" in message
    assert "FILE@:-1" in message
    options = {"external_field": True}
    for form, more in {"{}": {"skip_incomplete": True}, "{}@:-1": {}, "{}@:2": {}}.items():
        frames, left_out = packed(tmp_path, OPTIMISATION, form, **more, **options)
        assert len(frames) == 2
        require_water(frames[0])
        require_water(frames[1], -76.2, MOVED)
        assert left_out == ({"no forces": 1} if more else {})


def test_skip_incomplete_by_command(tmp_path):
    (tmp_path / "job.log").write_text(OPTIMISATION)
    command = ["pack", tmp_path / "job.log", "-o", tmp_path / "system"]
    assert "with --skip-incomplete" in run(*command, exit_code=1).output
    assert "left out: 1 (no forces)" in run(*command, "--skip-incomplete").output


def test_gradient_of_another_geometry(tmp_path):
    """Dpdata's reader of ORCA takes the last geometry and the last gradient."""
    (frame,), _ = packed(tmp_path, orca(orca_step()), "orca/spout:{}")
    require_water(frame)
    (tmp_path / "system").rename(tmp_path / "other")
    message = refusal(tmp_path, OPTIMISATION, "orca/spout:{}")
    assert "belongs to another geometry" in message


def test_several_geometries_of_gamess(tmp_path):
    """ASE's reader takes the first geometry and the last gradient."""
    text = gamess() + " COORDINATES OF ALL ATOMS ARE (ANGS)\n"
    (frame,), _ = packed(tmp_path, gamess(), "gamess-us-out:{}")
    require_water(frame, atol=2e-5)
    (tmp_path / "system").rename(tmp_path / "other")
    assert "the first one and the last gradient" in refusal(tmp_path, text, "gamess-us-out:{}")


def gamess(notes=""):
    rows = [(s, *r / outputs.BOHR) for s, r in zip(SYMBOLS, WATER, strict=True)]
    geometry = "\n".join(
        f" {s:10s} {outputs.NUMBERS[s]:5.1f} {x:17.10f} {y:19.10f} {z:19.10f}"
        for s, x, y, z in rows
    )
    gradient = "\n".join(
        f" {k:4d} {s:5s} {x:15.9f} {y:15.9f} {z:15.9f}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, GRADIENT, strict=True), 1)
    )
    return f"""                   *            GAMESS VERSION = 30 SEP 2022            *
 ATOM      ATOMIC                      COORDINATES (BOHR)
           CHARGE         X                   Y                   Z
{geometry}

{notes}
 FINAL RHF ENERGY IS      -76.3000000000 AFTER  10 ITERATIONS

                         GRADIENT OF THE ENERGY
                         ----------------------

 UNITS ARE HARTREE/BOHR    E'X               E'Y               E'Z
{gradient}

"""


UNCONVERGED = {
    "orca": (orca(orca_step(notes="   SCF NOT CONVERGED AFTER 125 CYCLES")), "{}"),
    "orca by dpdata": (
        orca(orca_step(notes="SCF NOT CONVERGED AFTER 125 CYCLES")), "orca/spout:{}"),
    "orca, near convergence": (
        orca(orca_step()).replace(" ENERGY", " ENERGY (Wavefunction not fully converged!)"), "{}"),
    "orca 6": (
        orca(orca_step()).replace(" ENERGY", " ENERGY (SCF not fully converged!)"), "{}"),
    "gaussian": (
        gaussian(INPUT, notes=" >>>>>>>>>> Convergence criterion not met."), "{}"),
    "gaussian by dpdata": (
        gaussian(INPUT, notes=" >>>>>>>>>> Convergence criterion not met."), "gaussian/log:{}"),
    "psi4": (psi4(notes="  Energy did not converge, but proceeding anyway."), "psi4/out:{}"),
    "psi4 by cclib": (psi4(notes="  Energy did not converge, but proceeding anyway."), "{}"),
    "gamess": (gamess(" SCF IS UNCONVERGED, TOO MANY ITERATIONS"), "gamess-us-out:{}"),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNCONVERGED)
def test_unconverged_scf(tmp_path, kind):
    text, form = UNCONVERGED[kind]
    good = water()
    assert "SCF" in refusal(tmp_path, text, form) or "energy is nan" in refusal(
        tmp_path, text, form
    )
    result = pack(
        [good, form.format(tmp_path / "job.log")], tmp_path / "system", skip_incomplete=True
    )
    assert result.left_out == {"SCF not converged": 1}
    assert len(load(tmp_path / "system")) == 1


# Where programs say so, and the energies, in eV, of the frame before, of that one and the next.
IN_OTHER_OUTPUTS = {
    "nwchem-out": (
        "         Total DFT energy =      -76.100000000000\n"
        "         Calculation failed to converge\n"
        "         Total DFT energy =      -76.200000000000\n"
        "         Total DFT energy =      -76.300000000000\n",
        [-76.1 * HARTREE, -76.2 * HARTREE, -76.3 * HARTREE],
    ),
    "vasp-out": (
        "  energy without entropy =      -14.1  energy(sigma->0) =      -14.10000000\n"
        "---- aborting loop EDIFF was not reached (unconverged) ----\n"
        "  free  energy   TOTEN  =       -14.25 eV\n"
        "  energy  without entropy=      -14.2  energy(sigma->0) =      -14.20000000\n"
        "  energy  without entropy=      -14.3  energy(sigma->0) =      -14.30000000\n",
        [-14.1, -14.2, -14.3],
    ),
    "espresso-out": (
        "!    total energy              =     -34.10000000 Ry\n"
        "     convergence NOT achieved after 100 iterations: stopping\n"
        "!    total energy              =     -34.20000000 Ry\n"
        "!    total energy              =     -34.30000000 Ry\n",
        [-34.1 * HARTREE / 2, -34.2 * HARTREE / 2, -34.3 * HARTREE / 2],
    ),
}
WHOLE_OUTPUTS = {
    "aims-output": "* WARNING! SELF-CONSISTENCY CYCLE DID NOT CONVERGE",
    "cp2k/output": "*** WARNING in qs_scf.F:598 :: SCF run NOT converged ***",
    "sqm/out": "Unable to achieve self consistency to the tolerances specified",
    "cclib": " gen_scfman_exception:  SCF failed to converge",
}


def test_unconverged_scf_in_other_outputs(tmp_path):
    """By the text alone; the readers want whole outputs."""
    names = np.array(SYMBOLS)

    def reasons(file_format, text, energies):
        (tmp_path / "job.out").write_text(text)
        output = Output.of(str(tmp_path / "job.out"), file_format)
        frames = [Frame("frame", names, WATER, energy, FORCES, False, {}) for energy in energies]
        return [getattr(output.judge(frame), "reason", "") for frame in frames]

    for file_format, (text, energies) in IN_OTHER_OUTPUTS.items():
        assert reasons(file_format, text, energies) == ["", "SCF not converged", ""], file_format
    for file_format, text in WHOLE_OUTPUTS.items():
        assert reasons(file_format, text, [-1.0]) == ["SCF not converged"], file_format
        assert reasons(file_format, "all is well\n", [-1.0]) == [""]


def test_only_the_unconverged_step_is_left_out(tmp_path):
    text = orca(
        orca_step(), orca_step(MOVED, -75.0, notes="SCF NOT CONVERGED AFTER 125 CYCLES"),
        orca_step(energy=-76.5),
    )  # fmt: skip
    frames, left_out = packed(tmp_path, text, skip_incomplete=True)
    assert [frame[2] / HARTREE for frame in frames] == pytest.approx([-76.3, -76.5])
    assert left_out == {"SCF not converged": 1}


def test_output_that_ends_early(tmp_path):
    """A killed run, of which ASE's reader makes an error; other sources are packed."""
    text = orca(orca_step(gradient=None), end="")
    message = refusal(tmp_path, text)
    assert "cannot read it as orca-output (Error: Calculation did not finish!)" in message
    assert "`skip_incomplete`" in message
    result = pack([water(), tmp_path / "job.log"], tmp_path / "system", skip_incomplete=True)
    assert result.left_out == {"output that ends early or cannot be read": 1}


@pytest.mark.parametrize("lost", [1, 20, 90])
@pytest.mark.parametrize("compressed", [False, True])
def test_extended_xyz_that_is_cut_off(tmp_path, lost, compressed):
    text = "".join(extxyz("", forces=FORCES, energy=-1.0 - k) for k in range(4))
    text = text[:-lost].rsplit(" ", 1)[0]
    path = tmp_path / ("a.xyz.gz" if compressed else "a.xyz")
    path.write_bytes(gzip.compress(text.encode()) if compressed else text.encode())
    with pytest.raises(ValueError, match=r"frame 3: ASE cannot read it as extxyz .*FILE@:10"):
        pack(path, tmp_path / "system")
    energies = {
        "": [-1, -2, -3], "@:-1": [-1, -2, -3], "@:3": [-1, -2, -3], "@1:3": [-2, -3], "@0": [-1],
        "@-2": [-3], "@2::-1": [-3, -2, -1], "@::2": [-1, -3], "@-3:-1": [-2, -3],
    }  # fmt: skip
    for index, expected in energies.items():
        result = pack(f"{path}{index}", tmp_path / "system", overwrite=True, skip_incomplete=True)
        assert [frame[2] for frame in load(tmp_path / "system")] == expected, index
        assert sum(result.left_out.values()) == (not index)
    with pytest.raises(ValueError, match=r"no frame is complete: .*frame 3"):
        pack(f"{path}@-1", tmp_path / "none", skip_incomplete=True)


def test_frames_without_labels_are_left_out(tmp_path):
    bare, nan = Atoms(SYMBOLS, WATER), water(energy=np.nan)
    no_forces = Atoms(SYMBOLS, WATER)
    no_forces.calc = SinglePointCalculator(no_forces, energy=-1.0)
    result = pack([water(), bare, nan, no_forces], tmp_path / "system", skip_incomplete=True)
    assert result.left_out == {"no energy": 1, "labels not finite": 1, "no forces": 1}
    result = pack([bare, [], water()], tmp_path / "b", skip_incomplete=True)
    assert result.left_out == {"no energy": 1, "source without a frame": 1}
    with pytest.raises(ValueError, match="no frame is complete: frame 0 of the given ones"):
        pack([bare, no_forces], tmp_path / "none", skip_incomplete=True)


# ---- All formats ---------------------------------------------------------------------------------


def require_right_or_refused(tmp_path, source):
    """Pack what a library has written, if its format has labels."""
    try:
        pack(source, tmp_path / "system", drop_cell=True)
    except ValueError:
        return False
    for r, f, E in load(tmp_path / "system"):
        np.testing.assert_allclose(np.diff(r, axis=0), np.diff(WATER[[1, 2, 0]], axis=0), atol=1e-6)
        np.testing.assert_allclose(f, FORCES[[1, 2, 0]], atol=1e-6)
        assert pytest.approx(-10.0, abs=1e-4) == E
    return True


@pytest.mark.filterwarnings("ignore")
def test_formats_that_ase_writes(tmp_path):
    right = set()
    for name, each in ioformats.items():
        if not (each.can_read and each.can_write) or name in ("mysql", "postgresql"):
            continue
        (tmp_path / name).mkdir()
        path = tmp_path / name / ("a.db" if name == "db" else "a")
        try:
            ase.io.write(path, water(), format=name)
        except Exception:  # wants a cell, parameters, or another package
            continue
        if require_right_or_refused(tmp_path / name, f"ase:{name}:{path}"):
            right.add(name)
    assert right - {"netcdftrajectory"} == {
        "bundletrajectory", "db", "extxyz", "json", "runnerdata", "traj"
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore")
def test_formats_that_dpdata_writes(tmp_path):
    import dpdata

    data = {
        "atom_names": ["O", "H"], "atom_numbs": [1, 2], "atom_types": np.array([0, 1, 1]),
        "orig": np.zeros(3), "cells": 30 * np.eye(3)[None], "nopbc": True,
        "coords": WATER[None], "energies": np.array([-10.0]), "forces": FORCES[None],
    }  # fmt: skip
    right = set()
    for name in naming.formats_of("dpdata"):
        folder = tmp_path / name.replace("/", " ")
        folder.mkdir()
        path = folder / ("a.traj" if "traj" in name else "a")
        system = dpdata.LabeledSystem(data=dict(data))
        try:
            many = "mixed" in name or "hdf5" in name
            (dpdata.MultiSystems(system) if many else system).to(name, str(path))
        except Exception:  # has no writer, or wants parameters
            continue
        if require_right_or_refused(folder, f"dpdata:{name}:{path}"):
            right.add(name)
    assert right >= {
        "ase/traj", "deepmd", "deepmd/comp", "deepmd/hdf5", "deepmd/mask", "deepmd/npy",
        "deepmd/npy/mixed", "deepmd/raw", "extxyz", "gpumd/xyz", "mace/xyz", "n2p2", "nequip/xyz",
        "quip/gap/xyz",
    }  # fmt: skip


# ---- Which reader --------------------------------------------------------------------------------


def test_suffix_that_leads_astray(tmp_path):
    """As ASE takes each .out for Quantum ESPRESSO's, and each .log for Gaussian's."""
    for name, tried in {"a.out": "espresso-out", "a.log": "gaussian-out"}.items():
        message = refusal(tmp_path, "output of some program\n" * 9, name=name)
        assert f"read as {tried} of ASE, which its name suggests" in message
        assert "name the format, as in gaussian-out:PATH" in message
        assert "dpdata:dftbplus:PATH,PATH" in message


@pytest.mark.parametrize("name", ["a.out", "a.log", "a.dat", "a.qcout"])
@pytest.mark.parametrize("program", [qchem, psi4, molpro])
@pytest.mark.parametrize("form", ["{}", "cclib:{}"])
def test_outputs_by_cclib(tmp_path, name, program, form):
    pytest.importorskip("cclib")
    (frame,), _ = packed(tmp_path, program(), form, name)
    require_water(frame, positions=WATER - WATER.mean(axis=0) if program is psi4 else WATER)


def test_cclib_refuses_what_does_not_fit_together(tmp_path):
    pytest.importorskip("cclib")
    text = qchem(
        correction=" Adding empirical dispersion correction\n"
        " Dispersion energy =    -0.0010000000 hartrees\n"
    )
    found = refusal(tmp_path, text, "cclib:{}")
    assert "cclib finds scfenergies, dispersionenergies; say to which" in found
    for energy, right in {
        "scfenergies": -76.3, "scfenergies+dispersionenergies": -76.301
    }.items():  # fmt: skip
        (frame,), _ = packed(tmp_path, text, f"cclib:{{}}?energy={energy}")
        require_water(frame, right)
    (tmp_path / "system").rename(tmp_path / "other")
    assert "cclib finds no mpenergies in it" in refusal(
        tmp_path, qchem(), "cclib:{}?energy=mpenergies"
    )
    assert "has the option energy only" in refusal(tmp_path, qchem(), "cclib:{}?force=x")
    second = qchem(positions=WATER * 1.1).partition("Standard Nuclear")
    text = qchem() + " " * 13 + second[1] + second[2].partition(" Gradient of SCF")[0]
    assert "2 geometries, 2 energies and 1 gradients" in refusal(tmp_path, text, "cclib:{}")
    assert "through cclib only those of Q-Chem" in refusal(tmp_path, gaussian(INPUT), "cclib:{}")
    assert "no gradient" in refusal(tmp_path, qchem().partition(" Gradient of SCF")[0], "cclib:{}")


def test_names_in_outputs_are_elements(tmp_path):
    text = psi4().replace("         O   ", "         Qq  ")
    assert "atom 0: Qq is no element" in refusal(tmp_path, text, "psi4/out:{}")


def test_cclib_is_optional(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "cclib", None)
    message = refusal(tmp_path, qchem(), name="a.out")
    assert "outputs of Q-Chem are read by cclib" in message
    assert 'pip install "deepmd-mask[cclib]"' in message


def test_several_files_and_options(tmp_path):
    """DFTB+ by dpdata, from two files."""
    geometry = "\n".join(
        f"{k} {1 if s == 'O' else 2} {x} {y} {z}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, WATER, strict=True), 1)
    )
    forces = "\n".join(f"{k} {x} {y} {z}" for k, (x, y, z) in enumerate(-GRADIENT, 1))
    (tmp_path / "dftb_in.hsd").write_text(f"Geometry = GenFormat {{\n3 C\nO H\n{geometry}\n}}\n")
    detailed = f"Total energy:   -76.3 H  -2076.0 eV\nTotal Forces\n{forces}\n"
    (tmp_path / "detailed.out").write_text(detailed)
    source = f"dpdata:dftbplus:{tmp_path}/dftb_in.hsd,{tmp_path}/detailed.out"
    pack(source, tmp_path / "system")
    require_water(load(tmp_path / "system")[0])
    for spoilt in ("Geometry optimization step: 7", "SCC is NOT converged"):
        (tmp_path / "detailed.out").write_text(f"{spoilt}\n{detailed}")
        with pytest.raises(ValueError, match=r"geometry that moved|SCF did not converge"):
            pack(source, tmp_path / "none")
    with pytest.raises(ValueError, match=r'there is no file ".*nowhere"'):
        pack(f"{source},{tmp_path}/nowhere", tmp_path / "none")


def test_amber_from_files_that_options_name(tmp_path):
    """Five files without a common name; AMBER's unit is kcal/mol."""
    from scipy.io import netcdf_file

    (tmp_path / "a.parm7").write_text(
        "%FLAG ATOMIC_NUMBER\n%FORMAT(10I8)\n" + f"{8:8d}{1:8d}{1:8d}\n"
        "%FLAG AMBER_ATOM_TYPE\n%FORMAT(20a4)\nOW  HW  HW  \n"
    )
    for name, arrays in {
        "b.nc": {
            "coordinates": WATER[None], "cell_lengths": [[30.0] * 3], "cell_angles": [[90.0] * 3]
        },
        "c.frc": {"forces": FORCES[None] / 0.04336411},
    }.items():  # fmt: skip
        with netcdf_file(tmp_path / name, "w") as file:
            for key, array in arrays.items():
                sizes = np.shape(array)
                names = [f"{key}{k}" for k in range(len(sizes))]
                for dimension, size in zip(names, sizes, strict=True):
                    file.createDimension(dimension, size)
                file.createVariable(key, "f8", names)[:] = array
    (tmp_path / "d.mden").write_text("L6 x E_pot\nL6 0 -150.0\n")
    files = zip(
        ("parm7_file", "nc_file", "mdfrc_file", "mden_file"),
        ("a.parm7", "b.nc", "c.frc", "d.mden"),
        strict=True,
    )
    options = "&".join(f"{option}={tmp_path}/{name}" for option, name in files)
    pack(
        f"dpdata:amber/md:?{options}&use_element_symbols=0,1,2", tmp_path / "system",
        drop_cell=True,
    )  # fmt: skip
    require_water(load(tmp_path / "system")[0], -150.0 * 0.0433641 / HARTREE, atol=1e-4)


def test_lammps_dump_with_options(tmp_path):
    """Energies are the sum of a column, in LAMMPS's own unit."""
    rows = "\n".join(
        f"{k} {1 if s == 'O' else 2} {' '.join(map(str, [*r, *(f / 0.04336411)]))} {e}"
        for k, (s, r, f, e) in enumerate(
            zip(SYMBOLS, WATER.tolist(), FORCES, [-100.0, -20.0, -30.0], strict=True), 1)
    )  # fmt: skip
    (tmp_path / "run.dump").write_text(
        "ITEM: TIMESTEP\n0\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS ss ss ss\n"
        "-9 9\n-9 9\n-9 9\nITEM: ATOMS id type x y z fx fy fz c_pe\n" + rows + "\n"
    )
    pack(
        f"ase:lammps-dump-text:{tmp_path}/run.dump?units=real&specorder=O,H", tmp_path / "system",
        energy_key="c_pe", energy_unit="kcal/mol",
    )  # fmt: skip
    require_water(load(tmp_path / "system")[0], -150.0 * 0.0433641 / HARTREE, atol=1e-4)


def test_options_in_names(tmp_path):
    (tmp_path / "a").touch()
    named = naming.parse_source(f"dpdata:amber/md:{tmp_path}/a?x=1&y=0.5&z=O,H&w=true&v=O,&u=None")
    assert (named.library, named.file_format, named.path) == ("dpdata", "amber/md", f"{tmp_path}/a")
    assert named.options == {"x": 1, "y": 0.5, "z": ["O", "H"], "w": True, "v": ["O"], "u": None}
    (tmp_path / "a?b=c").touch()
    assert naming.parse_source(f"traj:{tmp_path}/a?b=c").options == {}
    assert naming.parse_source(f"{tmp_path}/a?b=c").library is None
    for wrong in ("x", "x y=1", "=1", "x=1&"):
        with pytest.raises(ValueError, match="is no option; write them as"):
            naming.parse_source(f"ase:traj:{tmp_path}/a?{wrong}")
    for library in ("ase", "dpdata"):
        for name in naming.formats_of(library):
            assert naming.parse_source(f"{library}:{name}:{tmp_path}/a").file_format == name
    message = refusal(tmp_path, "", "dpdata:gaussian:{}", "b")
    assert "it is none of dpdata's: abacus/lcao/md, " in message


def test_orca_optimisation_that_is_still_running(tmp_path):
    """Its last, unfinished step is no frame."""
    text = orca(orca_step(), orca_step(energy=-76.4), end=ORCA_NEXT + "FINAL SINGLE POINT")
    with pytest.warns(UserWarning, match="did not finish"):
        frames, _ = packed(tmp_path, text + "\nORCA SCF GRADIENT CALCULATION\n")
    assert [frame[2] / HARTREE for frame in frames] == pytest.approx([-76.3, -76.4])
