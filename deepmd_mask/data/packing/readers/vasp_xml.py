# SPDX-License-Identifier: LGPL-3.0-or-later
"""How the SCF of each geometry in VASP's ``vasprun.xml`` ended."""

from xml.etree import ElementTree


def read_vasp_xml(path: str) -> tuple[list[tuple[float, bool]], bool]:
    """Read the energies.

    Parameters
    ----------
    path
        Of the file, which may be compressed.

    Returns
    -------
    list
        Each energy in eV that a reader may take, and whether its SCF took all steps that it was
        allowed, so that it did not converge.
    bool
        Whether the file ends too early.
    """
    from ase.io.formats import open_with_compression  # noqa: PLC0415  ASE takes its time

    found: list[tuple[float, bool]] = []
    most = None
    with open_with_compression(path, "rb") as file:
        try:
            for _, element in ElementTree.iterparse(file):
                if element.tag == "i" and element.get("name") == "NELM":
                    most = int(element.text or "")
                elif element.tag == "calculation":
                    steps = element.findall("scstep")
                    bad = most is not None and len(steps) >= most
                    found += [(energy, bad) for energy in _energies(element, steps)]
                    element.clear()
        except ElementTree.ParseError:
            return found, True
    return found, False


def _energies(calculation: ElementTree.Element, steps: list[ElementTree.Element]) -> list[float]:
    last = _named(calculation)
    energies = list(last.values())
    # ASE's energy without smearing; that behind the last step may be wrong in the file.
    step = _named(steps[-1]) if steps else {}
    if "e_fr_energy" in last and {"e_0_energy", "e_fr_energy"} <= set(step):
        energies.append(last["e_fr_energy"] + step["e_0_energy"] - step["e_fr_energy"])
    return energies


def _named(element: ElementTree.Element) -> dict[str, float]:
    entries = element.findall("energy/i")
    return {entry.get("name", ""): float(entry.text or "") for entry in entries}
