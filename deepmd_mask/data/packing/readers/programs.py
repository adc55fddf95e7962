# SPDX-License-Identifier: LGPL-3.0-or-later
"""Which readers read the outputs of which program, and how those say that an SCF failed."""

from dataclasses import dataclass

from ase.units import Hartree, Rydberg


@dataclass(frozen=True)
class Program:
    """How to read the output of a program.

    Attributes
    ----------
    readers
        Names of formats of ASE and dpdata, or "cclib".
    unconverged
        Matches a line that says of an SCF that it did not converge.
    energy
        Matches a line with the energy of that SCF or what is made of it, in the group 1. Without
        it the whole output is taken for unconverged.
    in_ev
        What such a number is multiplied by to have it in eV.
    inside
        Where the text is if a folder is read: a pattern of names in it.
    """

    readers: tuple[str, ...]
    unconverged: str
    energy: str | None = None
    in_ev: float = Hartree
    inside: str | None = None


_NUMBER = r"(-?\d+\.\d+(?:[EeDd][-+]?\d+)?)"
_PSI4 = r"did not converge, but proceeding anyway|Could not converge SCF"
PROGRAMS = {
    "Gaussian": Program(
        ("gaussian-out", "gaussian/log", "gaussian/md"),
        r"Convergence criterion not met|Convergence failure",
        rf"SCF Done:.*?=\s*{_NUMBER}",
    ),
    "ORCA": Program(
        ("orca-output", "orca/spout"),
        r"SCF NOT CONVERGED AFTER|not fully converged|wavefunction IS NOT CONVERGED",
        rf"FINAL SINGLE POINT ENERGY\s+(?:\(.*\)\s+)?{_NUMBER}",
    ),
    "NWChem": Program(
        ("nwchem-out",),
        r"Calculation failed to converge",
        rf"Total (?:DFT|SCF) energy\s*=\s*{_NUMBER}",
    ),
    "VASP": Program(
        ("vasp-out",),
        r"EDIFF was not reached|self-consistency was not achieved",
        rf"energy\(sigma->0\)\s*=\s*{_NUMBER}",  # ASE's energy
        1.0,
    ),
    "FHI-aims": Program(("aims-output",), r"SELF-CONSISTENCY CYCLE DID NOT CONVERGE"),
    "FHI-aims, one geometry": Program(
        ("fhi_aims/scf",), r"(?i)SELF-CONSISTENCY CYCLE DID NOT CONVERGE"
    ),
    "GAMESS": Program(("gamess-us-out",), r"SCF IS UNCONVERGED"),
    "Quantum ESPRESSO": Program(
        ("espresso-out", "qe/pw/scf"),
        r"convergence NOT achieved after",
        rf"total energy\s*=\s*{_NUMBER} Ry",
        Rydberg,
    ),
    "Psi4": Program(("psi4/out",), _PSI4),
    "Q-Chem, Psi4 and Molpro": Program(
        ("cclib",), f"{_PSI4}|SCF failed to converge|No convergence in SCF"
    ),
    "SQM": Program(("sqm/out",), r"Unable to achieve self consistency|No convergence in SCF after"),
    "DFTB+": Program(("dftbplus",), r"SCC is NOT converged"),
    "CP2K": Program(
        ("cp2k/output", "cp2k/aimd_output"),
        r"SCF run NOT converged",
        rf"ENERGY\| Total FORCE_EVAL.*\s{_NUMBER}\s*$",
        inside="*.log",
    ),
    "Siesta": Program(
        ("siesta/output", "siesta/aimd_output"),
        r"SCF_NOT_CONV|SCF did not converge",
        rf"E_KS\(eV\)\s*=\s*{_NUMBER}",
        1.0,
    ),
    "ABACUS": Program(
        ("abacus/scf", "abacus/pw/scf", "abacus/lcao/scf"),
        r"convergence has (?:not|NOT) been achieved",
        inside="OUT.*/running_*.log",
    ),
    "ABINIT": Program(("abinit-out",), r"was not enough scf cycles to converge"),
    "CASTEP": Program(
        ("castep-castep",), r"SCF cycles performed but system has not reached the groundstate"
    ),
    "GPAW": Program(("gpaw-out",), r"Did not converge!"),
    "ONETEP": Program(("onetep-out",), r"maximum number of NGWF CG iterations.*exceeded"),
}
PROGRAM_OF = {reader: program for program in PROGRAMS.values() for reader in program.readers}

# They count the steps of each SCF.
VASP_XML = ("vasp-xml", "vasp/xml", "xml")
# dpdata's readers that judge themselves, and warn of what they drop or set an energy to NaN.
TOLD_BY_DPDATA = (
    "vasp/outcar", "outcar", "fhi_aims/output", "fhi_aims/md", "abacus/md", "abacus/pw/md",
    "abacus/lcao/md", "abacus/relax", "abacus/pw/relax", "abacus/lcao/relax", "openmx/md",
    "pwmat/output", "pwmat/movement", "pwmat/mlmd", "movement", "mlmd",
)  # fmt: skip
# What does not tell how an SCF ended, as far as is known here: files made by other programs, and
# dynamics without an SCF.
NOTHING_TO_TELL = (
    "amber/md", "n2p2", "gaussian/fchk", "qe/cp/traj", "pymatgen/computedstructureentry",
    "ase/structure", "ase/traj", "deepmd", "deepmd/comp", "deepmd/hdf5", "deepmd/hdf5/mixed",
    "deepmd/lmdb", "deepmd/mask", "deepmd/npy", "deepmd/npy/mixed", "deepmd/raw", "lmdb",
    "extxyz", "gpumd/xyz", "mace/xyz", "nequip/xyz", "quip/gap/xyz", "quip/gap/xyz_file",
    "abinit-gsr", "acemolecule-out", "castep-geom", "castep-md", "dacapo-text", "dmol-arc",
    "gamess-us-punch", "gpw", "nomad-json", "qbox", "runnerdata", "turbomole-gradient",
)  # fmt: skip
