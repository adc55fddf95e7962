# SPDX-License-Identifier: LGPL-3.0-or-later
"""Frames that lack something are errors, or are left out and counted."""

import gzip

import numpy as np
import outputs
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from outputs import (
    FORCES,
    GRADIENT,
    HARTREE,
    INPUT,
    MOVED,
    OPTIMISATION,
    SYMBOLS,
    WATER,
    extxyz,
    gaussian,
    orca,
    orca_step,
    psi4,
)
from packing import load, packed, refusal, require_water, run, water

from deepmd_mask.data import pack
from deepmd_mask.data.frame import Frame
from deepmd_mask.data.packing.readers.outputs import Output

pytestmark = pytest.mark.filterwarnings("error::deepmd_mask.data.balance.NetForceWarning")


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
    "siesta/aimd_output": (
        "siesta: E_KS(eV) =             -465.1000\n"
        "SCF_NOT_CONV: SCF did not converge  in maximum number of steps.\n"
        "siesta: E_KS(eV) =             -465.2000\n"
        "siesta: E_KS(eV) =             -465.3000\n",
        [-465.1, -465.2, -465.3],
    ),
    # ASE has the Rydberg of CODATA 2006 there.
    "qe/pw/scf": (
        "!    total energy              =     -34.10000000 Ry\n"
        "     convergence NOT achieved after 100 iterations: stopping\n"
        "!    total energy              =     -34.20000000 Ry\n"
        "!    total energy              =     -34.30000000 Ry\n",
        [-34.1 * 13.60569193, -34.2 * 13.60569193, -34.3 * 13.60569193],
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
        return [getattr(output.judge(frame, sliced=False), "reason", "") for frame in frames]

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
