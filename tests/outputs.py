# SPDX-License-Identifier: LGPL-3.0-or-later
"""Outputs of quantum-chemistry programs as they look, short, with numbers that tests choose."""

import numpy as np
from scipy.spatial.transform import Rotation

NUMBERS = {"H": 1, "O": 8}
SYMBOLS = ["O", "H", "H"]
HARTREE, BOHR = 27.211386, 0.529177211
# Water whose bonds are stretched to 1.10 Å, in the axes of the input; forces of 0.10 hartree/bohr
# pull the H along the bonds to O, which is 5.142 eV/Å.
BOND = np.array([[0.0, 0.6, 0.8], [0.0, -0.8, 0.6]])
WATER = np.concatenate([[[0.1, 0.2, 0.3]], [0.1, 0.2, 0.3] + 1.1 * BOND])
GRADIENT = 0.10 * np.concatenate([-BOND.sum(axis=0)[None], BOND])  # hartree/bohr
FORCES = -GRADIENT * HARTREE / BOHR  # eV/Å


def table(name, positions):
    """Return a table of an orientation of Gaussian."""
    rule = " " + "-" * 69
    rows = [
        f"{k:7d}{NUMBERS[s]:11d}{0:12d}    {x:12.6f}{y:12.6f}{z:12.6f}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, positions, strict=True), 1)
    ]
    head = [
        " " * (26 if name == "Input" else 25) + f"{name} orientation:",
        rule,
        " Center     Atomic      Atomic             Coordinates (Angstroms)",
        " Number     Number       Type             X           Y           Z",
        rule,
    ]
    return "\n".join([*head, *rows, rule])


def gaussian_forces(gradient=GRADIENT):
    """Return a table of forces of Gaussian."""
    rule = " " + "-" * 67
    rows = [
        f"{k:7d}{NUMBERS[s]:9d}    {x:15.9f}{y:15.9f}{z:15.9f}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, -gradient, strict=True), 1)
    ]
    head = [
        " Center     Atomic                   Forces (Hartrees/Bohr)",
        " Number     Number              X              Y              Z",
        rule,
    ]
    return "\n".join([*head, *rows, rule])


def gaussian(*parts, route="#P B3LYP/6-31G(d) Force", energy=-76.3, notes=""):
    """Return a log of Gaussian with these tables, an energy and forces."""
    rule = " " + "-" * 30
    scf = f" SCF Done:  E(RB3LYP) =  {energy:.9f}     A.U. after   10 cycles"
    return "\n".join(
        [" Entering Gaussian System, Link 0=g16", rule, f" {route}", rule, *parts, notes, scf,
         gaussian_forces(), ""]
    )  # fmt: skip


def orca_step(positions=WATER, energy=-76.3, gradient=GRADIENT, notes=""):
    """Return what ORCA prints of one geometry."""
    lines = ["---------------------------------", "CARTESIAN COORDINATES (ANGSTROEM)",
             "---------------------------------"]  # fmt: skip
    lines += [
        f"  {s}   {x:11.6f} {y:11.6f} {z:11.6f}"
        for s, (x, y, z) in zip(SYMBOLS, positions, strict=True)
    ]
    lines += ["", "Number of atoms                             ...      3", notes, ""]
    lines += [f"FINAL SINGLE POINT ENERGY {energy:20.12f}", ""]
    if gradient is not None:
        lines += ["------------------", "CARTESIAN GRADIENT", "------------------", ""]
        lines += [
            f"{k:4d}   {s}   :{x:15.9f}{y:15.9f}{z:15.9f}"
            for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, gradient, strict=True), 1)
        ]
        lines += [""]
    return "\n".join(lines)


ORCA_HEAD = "                                 * O   R   C   A *\n"
ORCA_NEXT = "\n         *                ORCA GEOMETRY RELAXATION STEP                *\n"
ORCA_END = "\n                             ****ORCA TERMINATED NORMALLY****\n"


def orca(*steps, end=ORCA_END):
    """Return an output of ORCA with these steps."""
    return ORCA_HEAD + ORCA_NEXT.join(steps) + end


def psi4(energy=-76.3, positions=WATER, gradient=GRADIENT, notes=""):
    """Return an output of Psi4."""
    centred = positions - positions.mean(axis=0)
    geometry = "\n".join(
        f"         {s:12s} {x:18.12f} {y:18.12f} {z:18.12f} {16.0:18.12f}"
        for s, (x, y, z) in zip(SYMBOLS, centred, strict=True)
    )
    rows = "\n".join(
        f"     {k}      {x:18.12f} {y:18.12f} {z:18.12f}" for k, (x, y, z) in enumerate(gradient, 1)
    )
    return f"""
          Psi4: An Open-Source Ab Initio Electronic Structure Package
                               Psi4 1.9.1 release

  ==> Geometry <==

    Molecular point group: c1
    Full point group: C1

    Geometry (in Angstrom), charge = 0, multiplicity = 1:

       Center              X                  Y                   Z               Mass
    ------------   -----------------  -----------------  -----------------  -----------------
{geometry}

  Nuclear repulsion =    9.0

  ==> Iterations <==

                        Total Energy        Delta E     RMS |[F,P]|

   @DF-RKS iter   1:   {energy:.14f}   -1.0e-10   1.0e-10 DIIS
{notes}

  ==> Post-Iterations <==

  @DF-RKS Final Energy:   {energy:.14f}

   => Energetics <=

    Total Energy =                        {energy:.16f}

  -Total Gradient:
     Atom            X                  Y                   Z
    ------   -----------------  -----------------  -----------------
{rows}

  ## Total Gradient (Symmetry 0) ##
  Irrep: 1 Size: 3 x 3

                  1                   2                   3

{rows}


    Psi4 stopped on: Monday
    *** Psi4 exiting successfully. Buy a developer a beer!
"""


def qchem(energy=-76.3, positions=WATER, gradient=GRADIENT, correction=""):
    """Return an output of Q-Chem."""
    geometry = "\n".join(
        f"    {k}      {s}     {x:14.10f} {y:14.10f} {z:14.10f}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, positions, strict=True), 1)
    )
    rows = "\n".join(
        f"    {axis + 1}  " + "".join(f"{g:12.7f}" for g in column)
        for axis, column in enumerate(gradient.T)
    )
    return f"""                  Welcome to Q-Chem
     A Quantum Leap Into The Future Of Chemistry

 Q-Chem 5.4, Q-Chem, Inc., Pleasanton, CA (2021)
--------------------------------------------------------------
User input:
--------------------------------------------------------------
$molecule
0 1
O 0 0 0
$end
$rem
jobtype force
$end
--------------------------------------------------------------
 ----------------------------------------------------------------
             Standard Nuclear Orientation (Angstroms)
    I     Atom           X                Y                Z
 ----------------------------------------------------------------
{geometry}
 ----------------------------------------------------------------
 Nuclear Repulsion Energy =           9.0000000000 hartrees
 There are        5 alpha and        5 beta electrons
{correction}
 SCF converges when DIIS error is below 1.0e-05
 ---------------------------------------
  Cycle       Energy         DIIS Error
 ---------------------------------------
    1     {energy:.10f}      2.74e-06  Convergence criterion met
 ---------------------------------------
 SCF time:   CPU 0.32s  wall 0.00s
 SCF   energy in the final basis set =      {energy:.10f}
 Total energy in the final basis set =      {energy:.10f}
 Gradient of SCF Energy
            1           2           3
{rows}
 Max gradient component =       0.1
        *************************************************************
        *  Thank you very much for using Q-Chem.  Have a nice day.  *
        *************************************************************
"""


def molpro(energy=-76.3, positions=WATER, gradient=GRADIENT):
    """Return an output of Molpro."""
    geometry = "\n".join(
        f"{k:4d}  {s:4s} {NUMBERS[s]:8.2f} {x:14.9f} {y:14.9f} {z:14.9f}"
        for k, (s, (x, y, z)) in enumerate(zip(SYMBOLS, positions / BOHR, strict=True), 1)
    )
    rows = "\n".join(
        f"{k:4d} {x:20.9f} {y:20.9f} {z:20.9f}" for k, (x, y, z) in enumerate(gradient, 1)
    )
    return f"""
                                         ***  PROGRAM SYSTEM MOLPRO  ***

 Point group  C1

 ATOMIC COORDINATES

 NR  ATOM    CHARGE       X              Y              Z

{geometry}

 !RKS STATE 1.1 Energy              {energy:.12f}

 RKS GRADIENT FOR STATE 1.1

 Atom          dE/dx               dE/dy               dE/dz

{rows}

 Variable memory released
"""


def extxyz(header, positions=WATER, energy=-76.3, forces=-GRADIENT, column="forces"):
    rows = "".join(
        f"{s} {' '.join(map(repr, [*r.tolist(), *f.tolist()]))}\n"
        for s, r, f in zip(SYMBOLS, np.asarray(positions), forces, strict=True)
    )
    return f"3\nProperties=species:S:1:pos:R:3:{column}:R:3 energy={energy} {header}\n{rows}"


# The same water turned, and with an atom moved.
TURN = Rotation.from_euler("xyz", [20, 50, 70], degrees=True).as_matrix()
TURNED = (WATER - WATER.mean(axis=0)) @ TURN.T
MOVED = WATER + np.array([[0, 0, 0], [0, 0, 0.05], [0, 0, 0]])
INPUT, STANDARD = table("Input", WATER), table("Standard", TURNED)
OPTIMISATION = orca(orca_step(), orca_step(MOVED, -76.2), orca_step(gradient=None, energy=-76.4))
