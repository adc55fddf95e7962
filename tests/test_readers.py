# SPDX-License-Identifier: LGPL-3.0-or-later
"""What readers of ASE and dpdata leave out without an error is an error, or counted."""

import warnings

import numpy as np
import pytest
from ase.io import write
from ase.io.formats import ioformats
from outputs import HARTREE, SYMBOLS, WATER, psi4
from packing import load, run, water

from deepmd_mask.data import pack
from deepmd_mask.data.frame import Frame
from deepmd_mask.data.packing.readers.dpdata_files import _dropped
from deepmd_mask.data.packing.readers.outputs import Output
from deepmd_mask.data.packing.readers.programs import (
    NOTHING_TO_TELL,
    PROGRAM_OF,
    TOLD_BY_DPDATA,
    VASP_XML,
)


def outcar(*energies, unconverged=(), end="   General timing\n"):
    """Return an OUTCAR of water in a box, of which the SCF of some frames took all steps."""
    rule = " " + "-" * 83 + "\n"
    head = (
        "   TITEL  = PAW_PBE O 08Apr2002\n   TITEL  = PAW_PBE H 15Jun2001\n"
        "   VRHFIN =O: s2p4\n   VRHFIN =H: ultrasoft test\n"
        "   NWRITE =      2    write-flag & timer\n"
        "   NELM   =      3;   NELMIN=  2; NELMDL= -5     # of ELM steps\n"
        "   ions per type =               1   2\n"
    )
    box = "".join(
        f"   {' '.join(f'{v:12.6f}' for v in row)} {'0.1 0.0 0.0'}\n" for row in 9 * np.eye(3)
    )
    rows = "".join(f"  {x:10.5f} {y:10.5f} {z:10.5f}  0.1 0.2 -0.3\n" for x, y, z in WATER)
    text = head
    for k, energy in enumerate(energies):
        for step in range(1, (3 if k in unconverged else 2) + 1):
            text += f"{'-' * 40} Iteration    {k + 1}(   {step})  {'-' * 40}\n"
        text += "  VOLUME and BASIS-vectors are now :\n" + rule
        text += "  energy-cutoff  :      400.00\n  volume of cell :      729.00\n"
        text += "      direct lattice vectors                 reciprocal lattice vectors\n" + box
        text += " POSITION                                       TOTAL-FORCE (eV/Angst)\n"
        text += rule + rows + rule
        text += f"  free  energy   TOTEN  =    {energy:14.8f} eV\n\n"
        text += f"  energy  without entropy= {energy:.8f}  energy(sigma->0) = {energy:.8f}\n"
    return text + end


def vasprun(*energies, unconverged=(), end="</modeling>\n"):
    """Return a vasprun.xml of the same."""

    def entries(energy):
        names = ("e_fr_energy", "e_wo_entrp", "e_0_energy")
        return "<energy>" + "".join(f'<i name="{n}">{energy}</i>' for n in names) + "</energy>\n"

    def array(name, rows):
        lines = "".join(f"<v>{' '.join(map(str, row))}</v>\n" for row in rows)
        return f'<varray name="{name}">\n{lines}</varray>\n'

    def structure(name):
        basis = array("basis", (9 * np.eye(3)).tolist())
        crystal = f"<crystal>{basis}</crystal>\n"
        return f"<structure{name}>{crystal}{array('positions', (WATER / 9).tolist())}</structure>\n"

    atoms = "".join(
        f"<rc><c>{s}</c><c>{t}</c></rc>" for s, t in zip(SYMBOLS, (1, 2, 2), strict=True)
    )
    text = (
        '<?xml version="1.0"?>\n<modeling>\n<kpoints>'
        '<varray name="kpointlist"><v>0 0 0</v></varray>'
        '<varray name="weights"><v>1</v></varray></kpoints>\n'
        '<parameters><i type="int" name="NELM">3</i>'
        '</parameters>\n<atominfo><atoms>3</atoms><array name="atoms"><set>'
        f"{atoms}</set></array></atominfo>\n" + structure(' name="initialpos"')
    )
    for k, energy in enumerate(energies):
        text += "<calculation>\n"
        text += (3 if k in unconverged else 2) * f"<scstep>{entries(energy)}</scstep>\n"
        text += structure("") + array("forces", [[0.1, 0.2, -0.3]] * 3) + entries(energy)
        text += "</calculation>\n"
    return text + end


CASES = {
    "vasp/outcar": outcar,
    "vasp/xml": vasprun,
    "vasp-xml": vasprun,
}


@pytest.mark.parametrize("file_format", CASES)
def test_unconverged_frames_of_vasp(tmp_path, file_format):
    """Dpdata drops them with a warning, or without."""
    path = tmp_path / "job"
    path.write_text(CASES[file_format](-14.1, -14.2, -14.3, unconverged=[1]))
    options = {"drop_cell": True, "external_field": True}
    with pytest.raises(ValueError, match=r"frame 1: .*converge.*skip_incomplete"):
        pack(f"{file_format}:{path}", tmp_path / "system", **options)
    result = pack(f"{file_format}:{path}", tmp_path / "system", skip_incomplete=True, **options)
    assert result.left_out == {"SCF not converged": 1}
    assert [frame[2] for frame in load(tmp_path / "system")] == pytest.approx([-14.1, -14.3])


@pytest.mark.parametrize("file_format", CASES)
def test_interrupted_run_of_vasp(tmp_path, file_format):
    path = tmp_path / "job"
    whole = CASES[file_format](-14.1, -14.2, -14.3, end="")
    path.write_text(whole[: whole.rindex("0.1 0.2 -0.3")])
    options = {"drop_cell": True, "external_field": True, "skip_incomplete": True}
    result = pack(f"{file_format}:{path}", tmp_path / "system", **options)
    assert sum(result.left_out.values()) >= 1
    assert [frame[2] for frame in load(tmp_path / "system")] == pytest.approx([-14.1, -14.2])


def test_every_labelled_format_is_judged_or_tells_nothing():
    import dpdata  # noqa: F401
    from dpdata.format import Format

    known = {*PROGRAM_OF, *VASP_XML, *TOLD_BY_DPDATA, *NOTHING_TO_TELL}
    labelled = {
        name
        for name, reader in Format.get_formats().items()
        if reader.from_labeled_system is not Format.from_labeled_system
        or reader.from_multi_systems is not Format.from_multi_systems
    }
    assert labelled - known == set()
    outputs = {
        name
        for name, ioformat in ioformats.items()
        if ioformat.can_read and ("output" in ioformat.description.lower() or "-out" in name)
    } - {"wout"}  # of Wannier90, which has no energies
    assert outputs - known == set()
    assert {name for name in known if "/" not in name} <= {*ioformats, *labelled, "cclib"}


def test_warnings_of_other_libraries_are_shown(tmp_path, monkeypatch):
    import ase.io

    ase.io.write(tmp_path / "a.xyz", water())
    read = ase.io.extxyz.read_extxyz

    def warns(*args):
        warnings.warn("this is odd", stacklevel=1)
        return read(*args)

    monkeypatch.setattr("ase.io.extxyz.read_extxyz", warns)
    output = run("pack", tmp_path / "a.xyz", "-o", tmp_path / "system", "--external-field").output
    assert "warning: this is odd" in output


def test_trajectory_that_is_cut_off(tmp_path):
    """ASE's other formats are like extended XYZ; all behind the damage is left out."""
    write(tmp_path / "a.traj", [water(energy=-1.0 - k) for k in range(4)])
    data = (tmp_path / "a.traj").read_bytes()
    for lost in (300, len(data) // 2):
        (tmp_path / "b.traj").write_bytes(data[:-lost])
        message = r"frame \d: ASE cannot read it as traj .*skip_incomplete.*FILE@:10"
        with pytest.raises(ValueError, match=message):
            pack(tmp_path / "b.traj", tmp_path / "other")
        sources = [water(), tmp_path / "b.traj"]
        result = pack(sources, tmp_path / "system", skip_incomplete=True, overwrite=True)
        assert sum(result.left_out.values()) == 1


def test_dump_that_is_cut_off(tmp_path):
    step = (
        "ITEM: TIMESTEP\n{}\nITEM: NUMBER OF ATOMS\n3\nITEM: BOX BOUNDS ff ff ff\n0 9\n0 9\n0 9\n"
        "ITEM: ATOMS id type element x y z fx fy fz c_pe\n"
    ) + "".join(
        f"{k + 1} {t} {s} {x} {y} {z} 0.1 0.1 0.1 -1.0\n"
        for k, (t, s, (x, y, z)) in enumerate(zip((1, 2, 2), SYMBOLS, WATER, strict=True))
    )
    text = "".join(step.format(k) for k in range(4))
    (tmp_path / "run.dump").write_text(text[:-60])
    source = f"ase:lammps-dump-text:{tmp_path / 'run.dump'}"
    options = {"energy_key": "c_pe", "external_field": True}
    with pytest.raises(ValueError, match=r"skip_incomplete.*FILE@:10"):
        pack(source, tmp_path / "system", **options)
    good = water()
    good.arrays["c_pe"] = np.full(3, -1.0)
    result = pack([good, source], tmp_path / "a", skip_incomplete=True, **options)
    assert result.left_out == {"output that ends early or cannot be read": 1}
    pack(f"{source}@:3", tmp_path / "system", **options)
    assert len(load(tmp_path / "system")) == 3


def test_source_without_a_frame_names_format_and_remedy(tmp_path):
    path = tmp_path / "a.xyz"
    path.write_text("")
    message = "read as extxyz of ASE, there is no frame in it; if it is in another .*gaussian-out"
    with pytest.raises(ValueError, match=message):
        pack(f"extxyz:{path}", tmp_path / "system")
    write(path, [water(), water()])
    with pytest.raises(ValueError, match="there is no frame in it, or none that @ chooses; if"):
        pack(f"{path}@5:", tmp_path / "system")


def test_frames_of_a_whole_output_are_not_offered_to_be_chosen(tmp_path):
    path = tmp_path / "job.out"
    path.write_text(psi4(notes="  Energy did not converge, but proceeding anyway."))
    for source in (path, f"psi4/out:{path}"):
        with pytest.raises(ValueError, match="skip_incomplete") as raised:
            pack(source, tmp_path / "system")
        assert "@" not in str(raised.value)


WARNINGS = {
    "The following structures were unconverged: [1, 4]; so they are not collected.": {
        0: "SCF not converged", 3: "SCF not converged"},
    "Structure 2 5  are unconverged and not collected!": {
        2: "SCF not converged", 5: "SCF not converged"},
    "incomplete labels in frame 3; it is ignored: expected 6 numeric columns, got 5": {
        2: "incomplete labels"},
    "no energy found in frame 8; it and any frame after it are not read.": {
        7: "cut off at the end of the file"},
    "Warning: can not find the first line of force": {"unknown 0": "no forces"},
}  # fmt: skip


def test_warnings_of_dpdata_are_frames_left_out():
    for text, expected in WARNINGS.items():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.warn(text, stacklevel=1)
        found = _dropped(caught, "source a")
        assert {number: frame.reason for number, frame in found.items()} == expected
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.warn("the wrong potentials", stacklevel=1)
    with pytest.warns(UserWarning, match="the wrong potentials"):
        assert _dropped(caught, "source a") == {}


def test_outputs_in_a_folder(tmp_path):
    """Readers of CP2K and ABACUS take folders."""
    (tmp_path / "OUT.a").mkdir()
    (tmp_path / "OUT.a/running_scf.log").write_text(" convergence has NOT been achieved!\n")
    (tmp_path / "job.log").write_text(
        " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:   -17.100000000000000\n"
        " *** WARNING in qs_scf.F:598 :: SCF run NOT converged ***\n"
        " ENERGY| Total FORCE_EVAL ( QS ) energy [a.u.]:   -17.200000000000000\n"
    )
    expected = {
        "abacus/scf": {-1.0: True, -2.0: True},
        "cp2k/aimd_output": {-17.1 * HARTREE: False, -17.2 * HARTREE: True},
    }
    for file_format, energies in expected.items():
        (output,) = Output.all_of(str(tmp_path), file_format)
        for energy, bad in energies.items():
            frame = Frame("frame", np.array(SYMBOLS), WATER, energy, 0 * WATER, False, {})
            reason = getattr(output.judge(frame, sliced=False), "reason", None)
            assert reason == ("SCF not converged" if bad else None), (file_format, energy)
